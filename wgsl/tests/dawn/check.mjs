// Compiles WGSL with Dawn's front end, Tint, which Chromium uses, on its null backend: no GPU, no driver.
// Arguments: files. Exit status 1 and a message for each that is refused, 2 if Dawn cannot be started.
import fs from 'node:fs';

// Held to the end: an instance that is collected answers no more.
let gpu, device;
setTimeout(() => {
  console.error('Dawn does not answer');
  process.exit(1);
}, 60_000).unref();
try {
  const { create, globals } = await import('webgpu');
  Object.assign(globalThis, globals);
  gpu = create(['backend=null']);
  const adapter = await gpu.requestAdapter();
  const optional = ['shader-f16', 'subgroups'].filter((name) => adapter.features.has(name));
  device = await adapter.requestDevice({ requiredFeatures: optional });
} catch (error) {
  console.error(`Dawn: ${error.message ?? error}`);
  process.exit(2);
}

let refused = 0;
for (const file of process.argv.slice(2)) {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code: fs.readFileSync(file, 'utf8') });
  const { messages } = await module.getCompilationInfo();
  const error = await device.popErrorScope();
  for (const { type, lineNum, linePos, message } of messages) {
    console.error(`${file}:${lineNum}:${linePos}: ${type}: ${message}`);
  }
  if (error || messages.some(({ type }) => type === 'error')) {
    refused += 1;
  } else {
    console.log(`${file}: accepted`);
  }
}
// The instance would keep the process alive.
globalThis.gpu = gpu;
process.exit(refused === 0 ? 0 : 1);
