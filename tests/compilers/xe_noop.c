// An Intel GPU that is not there: loaded before Mesa's Vulkan driver for Intel, this library answers what the driver asks libdrm and
// the kernel's driver xe. Kernels are compiled as for the GPU that XE_DEVICE names; what is submitted does nothing, and memory is
// the process's own. Mesa has such libraries for other vendors (Debian: mesa-drm-shim), for Intel only in its source.
// Structures and numbers are those of xe_drm.h and xf86drm.h, which Debian's libdrm-dev brings.
// build: cc -shared -fPIC -o libxe_noop.so xe_noop.c -idirafter …/usr/include -idirafter …/usr/include/libdrm
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <drm/drm.h>
#include <drm/xe_drm.h>
#include <xf86drm.h>

// Opened as the device's node: it exists everywhere, and every ioctl is answered here.
#define NODE "/dev/null"

struct gpu {
  const char *name;
  int id, generation, release;
  int own_memory; // a card, not a part of the processor
  int subslices;
};
static const struct gpu gpus[] = {
  {"a770", 0x56a0, 12, 55, 1, 32},  {"b580", 0xe20b, 20, 1, 1, 20}, {"tigerlake", 0x9a49, 12, 0, 0, 6},
  {"lunarlake", 0x64a0, 20, 4, 0, 8}, {"pantherlake", 0xb080, 30, 0, 0, 12},
};
static const struct gpu *gpu = &gpus[1];

__attribute__((constructor)) static void choose(void) {
  const char *wanted = getenv("XE_DEVICE");
  for (size_t i = 0; wanted && i < sizeof gpus / sizeof *gpus; i++)
    if (!strcmp(wanted, gpus[i].name)) gpu = &gpus[i];
}

// libdrm: one device on the PCI bus, with a node to render on.

static drmDevicePtr make_device(void) {
  struct whole {
    drmDevice device;
    char *nodes[DRM_NODE_MAX];
    char paths[DRM_NODE_MAX][64];
    drmPciBusInfo bus;
    drmPciDeviceInfo info;
  } *w = calloc(1, sizeof *w);
  for (int i = 0; i < DRM_NODE_MAX; i++) w->nodes[i] = w->paths[i];
  strcpy(w->paths[DRM_NODE_RENDER], NODE);
  w->bus.bus = 1;
  w->info.vendor_id = w->info.subvendor_id = 0x8086;
  w->info.device_id = gpu->id;
  w->device.nodes = w->nodes;
  w->device.available_nodes = 1 << DRM_NODE_RENDER;
  w->device.bustype = DRM_BUS_PCI;
  w->device.businfo.pci = &w->bus;
  w->device.deviceinfo.pci = &w->info;
  return &w->device;
}
int drmGetDevices2(uint32_t flags, drmDevicePtr devices[], int most) {
  (void)flags;
  if (devices && most > 0) devices[0] = make_device();
  return 1;
}
int drmGetDevices(drmDevicePtr devices[], int most) { return drmGetDevices2(0, devices, most); }
int drmGetDevice2(int fd, uint32_t flags, drmDevicePtr *device) {
  (void)fd, (void)flags;
  *device = make_device();
  return 0;
}
int drmGetDevice(int fd, drmDevicePtr *device) { return drmGetDevice2(fd, 0, device); }
void drmFreeDevice(drmDevicePtr *device) {
  if (!device) return;
  free(*device);
  *device = NULL;
}
void drmFreeDevices(drmDevicePtr devices[], int n) {
  for (int i = 0; i < n; i++) drmFreeDevice(&devices[i]);
}
int drmGetNodeTypeFromFd(int fd) { return (void)fd, DRM_NODE_RENDER; }
char *drmGetRenderDeviceNameFromFd(int fd) { return (void)fd, strdup(NODE); }

// The kernel's driver: what it says of the GPU.

static int give(struct drm_xe_device_query *query, const void *data, uint32_t bytes) {
  if (query->size == 0) {
    query->size = bytes;
  } else if (query->size < bytes) {
    errno = EINVAL;
    return -1;
  } else {
    memcpy((void *)(uintptr_t)query->data, data, bytes);
  }
  return 0;
}
static int engines(struct drm_xe_device_query *query, struct drm_xe_query_engines *all) {
  const uint16_t classes[] = {DRM_XE_ENGINE_CLASS_RENDER, DRM_XE_ENGINE_CLASS_COPY, DRM_XE_ENGINE_CLASS_COMPUTE};
  all->num_engines = 3;
  for (int i = 0; i < 3; i++) all->engines[i].instance.engine_class = classes[i];
  return give(query, all, sizeof *all + 3 * sizeof all->engines[0]);
}
static void region(struct drm_xe_mem_region *r, int class, int instance, uint32_t page, uint64_t bytes) {
  r->mem_class = class;
  r->instance = instance;
  r->min_page_size = page;
  r->total_size = bytes;
  if (class == DRM_XE_MEM_REGION_CLASS_VRAM) r->cpu_visible_size = bytes;
}
static int memory(struct drm_xe_device_query *query, struct drm_xe_query_mem_regions *all) {
  region(&all->mem_regions[0], DRM_XE_MEM_REGION_CLASS_SYSMEM, 0, 4096, 16ull << 30);
  if (gpu->own_memory) region(&all->mem_regions[1], DRM_XE_MEM_REGION_CLASS_VRAM, 1, 65536, 12ull << 30);
  all->num_mem_regions = 1 + gpu->own_memory;
  return give(query, all, sizeof *all + all->num_mem_regions * sizeof all->mem_regions[0]);
}
static int config(struct drm_xe_device_query *query, struct drm_xe_query_config *c) {
  c->info[DRM_XE_QUERY_CONFIG_REV_AND_DEVICE_ID] = gpu->id | 8 << 16;
  c->info[DRM_XE_QUERY_CONFIG_FLAGS] = gpu->own_memory ? DRM_XE_QUERY_CONFIG_FLAG_HAS_VRAM : 0;
  c->info[DRM_XE_QUERY_CONFIG_MIN_ALIGNMENT] = 65536;
  c->info[DRM_XE_QUERY_CONFIG_VA_BITS] = 48;
  c->info[DRM_XE_QUERY_CONFIG_MAX_EXEC_QUEUE_PRIORITY] = 2;
  c->num_params = 5;
  return give(query, c, sizeof *c + 5 * sizeof c->info[0]);
}
static int tiles(struct drm_xe_device_query *query, struct drm_xe_query_gt_list *all) {
  struct drm_xe_gt *gt = all->gt_list;
  all->num_gt = 1;
  gt->type = DRM_XE_QUERY_GT_TYPE_MAIN;
  gt->reference_clock = 19200000;
  gt->near_mem_regions = 1 << gpu->own_memory;
  gt->far_mem_regions = 1;
  gt->ip_ver_major = gpu->generation;
  gt->ip_ver_minor = gpu->release;
  gt->ip_ver_rev = 4;
  return give(query, all, sizeof *all + sizeof *gt);
}
static char *mask(char *at, int type, uint64_t bits, uint32_t bytes) {
  struct drm_xe_query_topology_mask *m = (void *)at;
  m->type = type;
  m->num_bytes = bytes;
  memcpy(m->mask, &bits, bytes);
  return at + sizeof *m + bytes;
}
static int topology(struct drm_xe_device_query *query, char *start) {
  uint64_t subslices = (1ull << gpu->subslices) - 1;
  int wide = gpu->generation >= 20; // its execution units work on 16 numbers, not on 8
  char *end = mask(start, DRM_XE_TOPO_DSS_GEOMETRY, subslices, 8);
  end = mask(end, DRM_XE_TOPO_DSS_COMPUTE, subslices, 8);
  end = mask(end, DRM_XE_TOPO_L3_BANK, 0xff, 8);
  end = mask(end, wide ? DRM_XE_TOPO_SIMD16_EU_PER_DSS : DRM_XE_TOPO_EU_PER_DSS, wide ? 0xff : 0xffff, 4);
  return give(query, start, end - start);
}
static int answer(struct drm_xe_device_query *query) {
  _Alignas(16) char room[4096] = {0};
  void *data = room;
  switch (query->query) {
    case DRM_XE_DEVICE_QUERY_ENGINES: return engines(query, data);
    case DRM_XE_DEVICE_QUERY_MEM_REGIONS: return memory(query, data);
    case DRM_XE_DEVICE_QUERY_CONFIG: return config(query, data);
    case DRM_XE_DEVICE_QUERY_GT_LIST: return tiles(query, data);
    case DRM_XE_DEVICE_QUERY_GT_TOPOLOGY: return topology(query, data);
    case DRM_XE_DEVICE_QUERY_ENGINE_CYCLES: {
      struct drm_xe_query_engine_cycles *c = data;
      c->width = 36;
      c->engine_cycles = c->cpu_timestamp = 1;
      return give(query, c, sizeof *c);
    }
    case DRM_XE_DEVICE_QUERY_UC_FW_VERSION: {
      struct drm_xe_query_uc_fw_version *v = data;
      v->major_ver = 1;
      v->minor_ver = 20;
      return give(query, v, sizeof *v);
    }
    case DRM_XE_DEVICE_QUERY_HWCONFIG: {
      // Key, words, value: slices, subslices of one, execution units of one.
      const uint32_t table[] = {1, 1, 8, 2, 1, 32, 3, 1, 8};
      return give(query, table, sizeof table);
    }
    default: errno = EINVAL; return -1;
  }
}

// The kernel's driver: what it does. Handles are numbers, memory is anonymous, all work is done at once.

static uint32_t last_handle;

static int version(drm_version_t *v) {
  if (v->name && v->name_len >= 2) memcpy(v->name, "xe", 2);
  if (v->date && v->date_len) v->date[0] = '0';
  if (v->desc && v->desc_len) v->desc[0] = 'x';
  v->name_len = 2;
  v->date_len = v->desc_len = 1;
  v->version_major = v->version_minor = 1;
  return 0;
}
static int done(struct drm_syncobj_timeline_array *a) {
  uint64_t *points = (void *)(uintptr_t)a->points;
  for (uint32_t i = 0; i < a->count_handles; i++) points[i] = 1ull << 40;
  return 0;
}
static int drm_call(unsigned long request, void *argument) {
  switch (_IOC_NR(request)) {
    case _IOC_NR(DRM_IOCTL_VERSION): return version(argument);
    case _IOC_NR(DRM_IOCTL_GET_CAP): ((struct drm_get_cap *)argument)->value = 1; return 0;
    case _IOC_NR(DRM_IOCTL_SYNCOBJ_CREATE): ((struct drm_syncobj_create *)argument)->handle = ++last_handle; return 0;
    case _IOC_NR(DRM_IOCTL_SYNCOBJ_WAIT): ((struct drm_syncobj_wait *)argument)->first_signaled = 0; return 0;
    case _IOC_NR(DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT):
      ((struct drm_syncobj_timeline_wait *)argument)->first_signaled = 0;
      return 0;
    case _IOC_NR(DRM_IOCTL_SYNCOBJ_QUERY): return done(argument);
    case _IOC_NR(DRM_IOCTL_XE_DEVICE_QUERY): return answer(argument);
    case _IOC_NR(DRM_IOCTL_XE_GEM_CREATE): ((struct drm_xe_gem_create *)argument)->handle = ++last_handle; return 0;
    case _IOC_NR(DRM_IOCTL_XE_GEM_MMAP_OFFSET): {
      struct drm_xe_gem_mmap_offset *m = argument;
      m->offset = (uint64_t)m->handle << 32;
      return 0;
    }
    case _IOC_NR(DRM_IOCTL_XE_VM_CREATE): ((struct drm_xe_vm_create *)argument)->vm_id = 1; return 0;
    case _IOC_NR(DRM_IOCTL_XE_EXEC_QUEUE_CREATE):
      ((struct drm_xe_exec_queue_create *)argument)->exec_queue_id = ++last_handle;
      return 0;
    case _IOC_NR(DRM_IOCTL_XE_EXEC_QUEUE_GET_PROPERTY):
      ((struct drm_xe_exec_queue_get_property *)argument)->value = 0; // no queue is banned
      return 0;
    default: return 0;
  }
}
int ioctl(int fd, unsigned long request, ...) {
  va_list rest;
  va_start(rest, request);
  void *argument = va_arg(rest, void *);
  va_end(rest);
  return _IOC_TYPE(request) == DRM_IOCTL_BASE ? drm_call(request, argument) : syscall(SYS_ioctl, fd, request, argument);
}
void *mmap64(void *at, size_t bytes, int protection, int flags, int fd, off64_t offset) {
  if (fd >= 0 && (uint64_t)offset >> 32) { // what GEM_MMAP_OFFSET gave
    flags = (flags & MAP_FIXED) | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    fd = -1;
    offset = 0;
  }
  return (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}
void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
  return mmap64(at, bytes, protection, flags, fd, offset);
}
