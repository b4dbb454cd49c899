/** Rows of the catalogue of runtime holes that are no test in security.test.ts, with the reason. */
export const rowsElsewhere: { readonly [row: string]: string } = {
  7: 'a process that enters can be traced: security-enter.test.ts',
  12: 'a resolver of its own that took links wrongly: security-links.test.ts',
  14: 'fixes that were lost in a rebuild: package.test.ts installs and runs the packed artefact, made of these same files',
  18: 'a rootless container without a cgroup namespace: not of root, so its test is in rootless.test.ts',
  19: 'a hole that came back: scripts/mutants.mjs takes each defence away and sees its row go red',
  23: "unit properties by annotations are the caller's to filter: features names org.systemd.property. among the unsafe ones; systemd.test.ts",
  28: 'names of external mounts for CRIU: criu.test.ts and test/unit/criu (refused names, mounts compared before a process goes on)',
  30: 'BPF_PROG_QUERY of Linux 6.17 writes past a short attribute: ours is whole, with room behind it (device_program.cc); no test sees a write of the kernel there',
  37: 'as 28',
  44: 'a process that enters is seen before it is inside: security-enter.test.ts',
  N2: 'external keys that CRIU reads otherwise: as 28',
  N3: 'a copy that follows links: nothing is copied between host and rootfs; tmpcopyup copies inside, by descriptors (audit.test.ts, init-rootfs.test.ts)',
  N7: 'host programs found in a rootfs, archives: none is ever looked up or unpacked there',
  N8: 'a label written to an ordinary file: labels go through the private procfs (rows 9, 42; audit.test.ts)',
};
