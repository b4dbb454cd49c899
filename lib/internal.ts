/** What the files beside the library (sandbox, doctor, nrunc) take from it, and nobody else: one copy of each in a process. */
export { availableControllers } from './cgroups/available.ts';
export { hostLayout } from './cgroups/layout.ts';
export { resolveSpec } from './config/load.ts';
export { binding } from './native/binding.ts';
export { runPlan } from './parent/short-plan.ts';
