/**
 * The system calls of a sandbox: what programs need, without what only the system's administration does and what the
 * kernel's bugs were often in. All else is EPERM, and ENOSYS above the newest call of the list, so that C libraries fall
 * back. Of names that an architecture does not have nothing comes of.
 */
import type { Seccomp } from '../config/config.ts';

const words = (text: string): string[] => text.trim().split(/\s+/);

const files = words(`
  access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
  fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
  flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat
  getcwd getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32
  lgetxattr link linkat listxattr llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 memfd_create mkdir mkdirat
  mknod mknodat newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink
  readlinkat readv removexattr rename renameat renameat2 rmdir sendfile sendfile64 setxattr splice stat stat64 statfs
  statfs64 statx symlink symlinkat sync sync_file_range sync_file_range2 syncfs tee truncate truncate64 umask unlink
  unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev cachestat
  landlock_add_rule landlock_create_ruleset landlock_restrict_self`);

const memory = words(`
  brk get_mempolicy madvise membarrier memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap msync munlock
  munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages map_shadow_stack mseal`);

const processes = words(`
  arch_prctl alarm capget capset execve execveat exit exit_group fork getcpu getegid getegid32 geteuid geteuid32 getgid
  getgid32 getgroups getgroups32 getpgid getpgrp getpid getpriority getresgid getresgid32 getresuid getresuid32 getrlimit
  getrusage getsid gettid getuid getuid32 get_robust_list get_thread_area ioprio_get kill pidfd_open pidfd_send_signal
  prctl prlimit64 rseq sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
  sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
  seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid
  setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid
  set_thread_area set_tid_address setuid setuid32 sysinfo tgkill times tkill ugetrlimit uname vfork wait4 waitid waitpid`);

const signalsAndTime = words(`
  clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer
  gettimeofday nanosleep pause restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
  rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo setitimer sigaltstack signalfd signalfd4
  sigprocmask sigreturn time timer_create timer_delete timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
  timerfd_settime64 timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64`);

const waiting = words(`
  epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
  futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake io_cancel io_destroy io_getevents io_pgetevents
  io_pgetevents_time64 io_setup io_submit poll ppoll ppoll_time64 pselect6 pselect6_time64 select _newselect`);

const communication = words(`
  accept accept4 bind connect getpeername getrandom getsockname getsockopt listen pipe pipe2 recv recvfrom recvmmsg
  recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
  ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink
  msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget`);

/** CLONE_NEW* of clone(2): a user namespace would give back all capabilities inside of it. */
const newNamespaces = 0x7e02_0000;
const enosys = 38;

/** socket(2) families: UNIX, IPv4, IPv6, netlink. Not AF_ALG, AF_VSOCK, AF_PACKET and the many that nobody looks at. */
const families = [1, 2, 10, 16];

/** personality(2): Linux, with or without randomised addresses, of 32 bits, and the question. */
const personalities = ['0', '8', '131072', '131080', '4294967295'];

export const defaultSeccomp: Seccomp = {
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: 1,
  syscalls: [
    {
      names: [...files, ...memory, ...processes, ...signalsAndTime, ...waiting, ...communication],
      action: 'SCMP_ACT_ALLOW',
    },
    {
      names: ['clone'],
      action: 'SCMP_ACT_ALLOW',
      args: [{ index: 0, value: String(newNamespaces), valueTwo: '0', op: 'SCMP_CMP_MASKED_EQ' }],
    },
    // Its flags are behind a pointer, where no filter can look: libraries then take clone.
    { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: enosys },
    ...families.map(family => ({
      names: ['socket'],
      action: 'SCMP_ACT_ALLOW',
      args: [{ index: 0, value: String(family), op: 'SCMP_CMP_EQ' }],
    })),
    ...personalities.map(value => ({
      names: ['personality'],
      action: 'SCMP_ACT_ALLOW',
      args: [{ index: 0, value, op: 'SCMP_CMP_EQ' }],
    })),
  ],
};
