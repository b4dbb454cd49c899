/** The public names of libcontainer. */

export { busyboxRootfs } from './busybox-rootfs.ts';
export type { BlkioEntry, IntelRdtStats, MemoryData, Psi, PsiLine, Stats } from './cgroups/stats.ts';
export { type DeviceNumber, type Limit, type UnifiedLimits, unifiedLimits } from './cgroups/v2/unified.ts';
export type {
  Capabilities,
  Config,
  Device,
  DeviceRule,
  Hook,
  HookName,
  Hooks,
  IdMapping,
  Idmap,
  IntelRdt,
  Mount,
  Namespace,
  NamespaceType,
  ProcessConfig,
  Resources,
  Rlimit,
  Scheduler,
  Seccomp,
  ThrottleDevice,
  User,
} from './config/config.ts';
export { defaultSpecText } from './config/default-spec.ts';
export type { Json } from './config/json.ts';
export type { Landlock } from './config/landlock.ts';
export {
  configFromSpec,
  type LoadOptions as ConfigLoadOptions,
  loadConfig,
  loadProcess,
  resourcesFromJson,
} from './config/load.ts';
export type { Overlay, OverlayOptions } from './config/overlay.ts';
export {
  type Command,
  Container,
  type ContainerEvents,
  type DestroyOptions,
  type ExecutionOptions,
  type PreparedProcess,
  type SetOptions,
} from './container.ts';
export type { EventOptions } from './container-events.ts';
export type { ContainerExit } from './container-exit.ts';
export type { ContainerStats, InterfaceStats } from './container-stats.ts';
export type {
  CgroupsMode,
  CheckpointOptions,
  CheckpointResult,
  CheckpointStatistics,
  CriuProgress,
  RestoreOptions,
} from './criu/options.ts';
export {
  CgroupError,
  ConfigError,
  type ConfigIssue,
  ContainerError,
  CriuError,
  HookError,
  InitError,
  LibcontainerError,
  type Reason,
  SyscallError,
} from './errors.ts';
export type {
  CgroupEvent,
  ContainerEvent,
  ExitEvent,
  MemoryEventName,
  OomEvent,
  PressureEvent,
  PressureLevel,
  PressureTrigger,
} from './events/event.ts';
export type { EventStream } from './events/stream.ts';
export {
  type ContainerSummary,
  type CreateOptions,
  type FactoryOptions,
  LinuxFactory,
  type LoadOptions,
} from './factory.ts';
export { type Features, features } from './features.ts';
/** @internal For libcontainer/sandbox, libcontainer/doctor and nrunc, which are files of their own. */
export { availableControllers, binding, hostLayout, resolveSpec, runPlan } from './internal.ts';
export type { Status } from './lifecycle.ts';
export type { Logger, OperationMessage, OperationName, StepMessage } from './observe.ts';
export type { InnerMount } from './parent/inner-mount.ts';
export type { CallerFacts, NodeOptions, SyscallCall } from './parent/syscall-call.ts';
export type {
  ErrnoName,
  SeccompHandlerOptions,
  SyscallAnswer,
  SyscallErrorEvent,
  SyscallHandler,
  SyscallHandlers,
} from './parent/syscall-listener.ts';
export type { SyscallArguments, SyscallName } from './parent/syscall-table.ts';
export {
  type Explained,
  type ExplainedPlan,
  type ExplainedStep,
  explainPlan,
  printPlan,
} from './plan/explain.ts';
export type {
  EnteredNamespace,
  HookCommand,
  HostView,
  MountStep,
  StartPlan,
  Step,
  TreeRequest,
} from './plan/steps.ts';
export { Pool, type PoolOptions, type TakenContainer } from './pool.ts';
export {
  type ExitStatus,
  Process,
  type ProcessOptions,
  type StdioInput,
  type StdioOutput,
} from './process.ts';
export { type SignalName, signalName, signalNumber } from './signals.ts';
export type { OciState, State } from './state.ts';
