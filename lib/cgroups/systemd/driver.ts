/** What a start, an update or a removal with systemd needs; loaded with the first of them. */
export { annotationProperties, type Property } from './annotations.ts';
export { type Systemd, systemdOf, unitInUse } from './bus.ts';
export { type UnitLimits, unitLimits } from './properties.ts';
export { type Unit, unitOf } from './unit.ts';
