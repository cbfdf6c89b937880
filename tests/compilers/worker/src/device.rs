//! Pipelines of a Vulkan device, and what its compiler says of them (VK_KHR_pipeline_executable_properties).
use crate::{Kernel, Outcome, one_line, translate};
use ash::{khr, vk};
use std::ffi::{CStr, c_char};
use std::fmt::Write;
use std::path::Path;

/// An open device with what decides which kernels it takes.
struct Device {
    device: ash::Device,
    executables: khr::pipeline_executable_properties::Device,
    /// Newest SPIR-V that it reads.
    spirv: (u8, u8),
    limits: vk::PhysicalDeviceLimits,
    subgroups: [u32; 2],
    /// Sizes of square matrices of f16 that it adds in f32.
    matrices: Vec<u32>,
    /// Kept so that nothing is unloaded before the device.
    _instance: ash::Instance,
    _entry: ash::Entry,
}

fn text(characters: &[c_char]) -> String {
    let bytes: Vec<u8> = characters.iter().map(|&c| c as u8).take_while(|&b| b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn failed(what: &'static str) -> impl Fn(vk::Result) -> String {
    move |error| format!("{what}: {error}")
}

fn open() -> Outcome<Device> {
    // SAFETY: Vulkan's own library, loaded once; every handle below is used while what made it lives, and is destroyed by the end of
    // the process.
    unsafe {
        let entry = ash::Entry::load().map_err(|e| e.to_string())?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let instance = entry
            .create_instance(&vk::InstanceCreateInfo::default().application_info(&application), None)
            .map_err(failed("vkCreateInstance"))?;
        let found = instance.enumerate_physical_devices().map_err(failed("vkEnumeratePhysicalDevices"))?;
        let physical = *found.first().ok_or("no Vulkan device")?;
        let extensions =
            instance.enumerate_device_extension_properties(physical).map_err(failed("the device's extensions"))?;
        let has = |name: &CStr| extensions.iter().any(|e| text(&e.extension_name).as_bytes() == name.to_bytes());
        let mut enabled = vec![khr::pipeline_executable_properties::NAME];
        if !has(enabled[0]) {
            return Err("the driver says nothing of its pipelines".into());
        }
        let is_cooperative = has(khr::cooperative_matrix::NAME);
        enabled.extend(is_cooperative.then_some(khr::cooperative_matrix::NAME));
        let is_robust = has(ash::ext::robustness2::NAME);
        enabled.extend(is_robust.then_some(ash::ext::robustness2::NAME));

        // Everything that kernels may use, as far as the device has it.
        let (mut v11, mut v12, mut v13) = <(
            vk::PhysicalDeviceVulkan11Features,
            vk::PhysicalDeviceVulkan12Features,
            vk::PhysicalDeviceVulkan13Features,
        )>::default();
        let mut matrix = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default();
        let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
        let mut says = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default();
        let mut features = vk::PhysicalDeviceFeatures2::default();
        let properties = instance.get_physical_device_properties(physical);
        features = features.push_next(&mut v11).push_next(&mut v12).push_next(&mut says);
        let is_13 = properties.api_version >= vk::API_VERSION_1_3;
        if is_13 {
            features = features.push_next(&mut v13);
        }
        if is_cooperative {
            features = features.push_next(&mut matrix);
        }
        if is_robust {
            features = features.push_next(&mut robust);
        }
        instance.get_physical_device_features2(physical, &mut features);
        features.features = vk::PhysicalDeviceFeatures { robust_buffer_access: vk::TRUE, ..Default::default() };

        let queue = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
        let names: Vec<*const c_char> = enabled.iter().map(|name| name.as_ptr()).collect();
        let request = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queue)
            .enabled_extension_names(&names)
            .push_next(&mut features);
        let device = instance.create_device(physical, &request, None).map_err(failed("vkCreateDevice"))?;

        let mut sizes = vk::PhysicalDeviceSubgroupSizeControlProperties::default();
        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut more = vk::PhysicalDeviceProperties2::default().push_next(&mut sizes).push_next(&mut driver);
        instance.get_physical_device_properties2(physical, &mut more);
        let calls = khr::cooperative_matrix::Instance::new(&entry, &instance);
        let kinds = if is_cooperative {
            calls.get_physical_device_cooperative_matrix_properties(physical).map_err(failed("its matrices"))?
        } else {
            Vec::new()
        };
        let (half, single) = (vk::ComponentTypeKHR::FLOAT16, vk::ComponentTypeKHR::FLOAT32);
        let fits = |k: &&vk::CooperativeMatrixPropertiesKHR| {
            [k.m_size, k.n_size] == [k.k_size; 2]
                && [k.a_type, k.b_type] == [half; 2]
                && [k.c_type, k.result_type] == [single; 2]
                && k.scope == vk::ScopeKHR::SUBGROUP
        };
        let mut matrices: Vec<u32> = kinds.iter().filter(fits).map(|k| k.k_size).collect();
        matrices.dedup();
        let subgroups = [sizes.min_subgroup_size, sizes.max_subgroup_size];
        let limits = properties.limits;
        println!(
            "DEVICE\t{}\t{}\tsubgroups {subgroups:?}, matrices {matrices:?}, {} bytes of workgroup memory, {} threads",
            text(&properties.device_name),
            text(&driver.driver_info),
            limits.max_compute_shared_memory_size,
            limits.max_compute_work_group_invocations,
        );
        Ok(Device {
            executables: khr::pipeline_executable_properties::Device::new(&instance, &device),
            device,
            spirv: if is_13 { (1, 6) } else { (1, 5) },
            limits,
            subgroups,
            matrices,
            _instance: instance,
            _entry: entry,
        })
    }
}

impl Device {
    /// Why the engine would not ask this device for the kernel.
    fn lacks(&self, kernel: &Kernel) -> Option<String> {
        let [size, subgroup] = kernel.units;
        let limits = &self.limits;
        if size > 0 && !self.matrices.contains(&size) {
            return Some("no such matrices".into());
        }
        if size > 0 && !(self.subgroups[0]..=self.subgroups[1]).contains(&subgroup) {
            return Some("no such subgroups".into());
        }
        if kernel.buffers > limits.max_per_stage_descriptor_storage_buffers {
            return Some(format!("{} buffers", kernel.buffers));
        }
        if kernel.workgroup_bytes > limits.max_compute_shared_memory_size {
            return Some(format!("{} bytes of workgroup memory", kernel.workgroup_bytes));
        }
        if kernel.threads > limits.max_compute_work_group_invocations {
            return Some(format!("{} threads", kernel.threads));
        }
        None
    }

    /// The compiler's figures for a kernel, and how many matrix instructions are in its code.
    fn compile(&self, dir: &Path, kernel: &Kernel) -> Outcome<String> {
        let (module, info) = translate::parse(dir, kernel)?;
        let words = translate::spirv(kernel, &module, &info, self.spirv)?;
        let bindings: Vec<vk::DescriptorSetLayoutBinding> = (0..kernel.buffers)
            .map(|binding| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding)
                    .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let push = [vk::PushConstantRange {
            stage_flags: vk::ShaderStageFlags::COMPUTE,
            offset: 0,
            size: kernel.params_bytes,
        }];
        let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
            | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        // SAFETY: all that is made here is of this device and is handed on as Vulkan wants it; naga has validated the shader.
        unsafe {
            let d = &self.device;
            let set = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [d.create_descriptor_set_layout(&set, None).map_err(failed("a layout"))?];
            let mut layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            if kernel.params_bytes > 0 {
                layout = layout.push_constant_ranges(&push);
            }
            let layout = d.create_pipeline_layout(&layout, None).map_err(failed("a layout"))?;
            let module = vk::ShaderModuleCreateInfo::default().code(&words);
            let module = d.create_shader_module(&module, None).map_err(failed("the module"))?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .module(module)
                .name(c"main");
            let request = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(flags)];
            let made = d.create_compute_pipelines(vk::PipelineCache::null(), &request, None);
            let pipeline = *made.map_err(|(_, e)| e.to_string())?.first().ok_or("no pipeline")?;
            let said = self.statistics(pipeline);
            d.destroy_pipeline(pipeline, None);
            d.destroy_shader_module(module, None);
            d.destroy_pipeline_layout(layout, None);
            d.destroy_descriptor_set_layout(sets[0], None);
            said
        }
    }

    /// # Safety
    /// The pipeline is of this device and was made with the flags that keep what is asked for here.
    unsafe fn statistics(&self, pipeline: vk::Pipeline) -> Outcome<String> {
        let calls = &self.executables;
        let of = vk::PipelineInfoKHR::default().pipeline(pipeline);
        // SAFETY: as the caller promised; sizes come from the calls themselves.
        unsafe {
            let parts = calls.get_pipeline_executable_properties(&of).map_err(failed("executables"))?;
            let mut said = String::new();
            // A compiler may say several: for Intel one for each width, of which the first is what most workgroups run.
            for (index, part) in parts.iter().enumerate().take(1) {
                let _ = write!(said, "subgroup={}", part.subgroup_size);
                let which = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(index as u32);
                for s in calls.get_pipeline_executable_statistics(&which).map_err(failed("statistics"))? {
                    let value = match s.format {
                        vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => s.value.f64,
                        vk::PipelineExecutableStatisticFormatKHR::BOOL32 => f64::from(s.value.b32),
                        _ => s.value.u64 as f64,
                    };
                    let _ = write!(said, "\t{}={value}", text(&s.name));
                }
                let _ = write!(said, "\tmatrix={}", self.matrix_instructions(&which)?);
            }
            Ok(said)
        }
    }

    /// # Safety
    /// As [`Device::statistics`].
    unsafe fn matrix_instructions(&self, which: &vk::PipelineExecutableInfoKHR) -> Outcome<usize> {
        // SAFETY: as the caller promised; the second call fills memory of the sizes that the first asked for.
        unsafe {
            let fp = self.executables.fp().get_pipeline_executable_internal_representations_khr;
            let handle = self.executables.device();
            let mut n = 0;
            fp(handle, which, &mut n, std::ptr::null_mut()).result().map_err(failed("machine code"))?;
            let mut texts = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); n as usize];
            fp(handle, which, &mut n, texts.as_mut_ptr()).result().map_err(failed("machine code"))?;
            let mut memory: Vec<Vec<u8>> = texts.iter().map(|t| vec![0; t.data_size]).collect();
            for (t, bytes) in texts.iter_mut().zip(&mut memory) {
                t.p_data = bytes.as_mut_ptr().cast();
            }
            fp(handle, which, &mut n, texts.as_mut_ptr()).result().map_err(failed("machine code"))?;
            // The last text is the machine's own.
            let code = texts.iter().zip(&memory).rfind(|(t, _)| t.is_text == vk::TRUE);
            let code = code.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
            let is_matrix = |line: &&str| ["v_wmma", "v_mfma", "HMMA", "hmma", "dpas"].iter().any(|i| line.contains(i));
            Ok(code.lines().filter(is_matrix).count())
        }
    }
}

/// Compiles all that the engine would ask the first device for.
pub fn pipelines(dir: &Path, kernels: &[Kernel]) -> Outcome<()> {
    let device = open()?;
    for kernel in kernels {
        if let Some(reason) = device.lacks(kernel) {
            println!("SKIPPED\t{}\t{reason}", kernel.name);
            continue;
        }
        // A driver that ends the process is known by the last name.
        println!("START\t{}", kernel.name);
        match device.compile(dir, kernel) {
            Ok(said) => println!("KERNEL\t{}\t{said}", kernel.name),
            Err(error) => println!("FAILED\t{}\t{}", kernel.name, one_line(&error)),
        }
    }
    Ok(())
}
