// Gives the WGSL of a directory that tests/compilers.rs filled to Tint, the compiler of Chromium, as the npm package `webgpu` brings it.
// usage: node tint.mjs PACKAGE DIR
import { readFileSync } from 'node:fs';
const [dawn, dir] = process.argv.slice(2);
const { create, globals } = await import(`${dawn}/index.js`);
Object.assign(globalThis, globals);
const say = (...parts) => console.log(parts.map(part => String(part).replace(/\s+/g, ' ')).join('\t'));

// A device that computes nothing. What it belongs to has to be held, or it is collected while it is in use.
globalThis.gpu = create(['backend=null']);
const adapter = await gpu.requestAdapter();
if (!adapter) throw new Error('no adapter');
const names = ['maxStorageBuffersPerShaderStage', 'maxComputeWorkgroupStorageSize', 'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX', 'maxBindingsPerBindGroup', 'maxImmediateSize'];
const requiredLimits = Object.fromEntries(names.filter(n => adapter.limits[n] !== undefined).map(n => [n, adapter.limits[n]]));
const requiredFeatures = ['shader-f16', 'subgroups'].filter(feature => adapter.features.has(feature));
const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
say('DEVICE', adapter.info.description, `immediates of ${adapter.limits.maxImmediateSize} bytes`);

for (const line of readFileSync(`${dir}/manifest.tsv`, 'utf8').trim().split('\n')) {
  const [name, , , , , , size] = line.split('\t');
  if (size !== '0') {
    say('SKIPPED', name, 'matrix units');
    continue;
  }
  say('START', name);
  device.pushErrorScope('validation');
  const code = readFileSync(`${dir}/${name}.wgsl`, 'utf8');
  const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
  const scope = await device.popErrorScope();
  const error = messages.find(message => message.type === 'error');
  if (error) say('FAILED', name, `line ${error.lineNum}: ${error.message}`);
  else if (scope) say('FAILED', name, scope.message);
  else say('KERNEL', name, '');
}
process.exit(0);
