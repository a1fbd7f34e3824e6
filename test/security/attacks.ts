/**
 * Attacks of a command on what is not its own: the rows of the table in `docs/security.md`. Each is a script that prints
 * a line for everything that it got, and nothing where all of it was refused.
 */
import { type ModeName, modeNames, resourceSecret, webhookSecret } from "./modes.js"

/** What an attacker is told, so that it need not guess. */
export interface Facts {
  readonly servicePid: number
  /** `OFFLOAD_DATA`, and every file in it. */
  readonly data: string
  readonly dataFiles: ReadonlyArray<string>
  /** An argument of every process of another caller's attempts. */
  readonly victim: string
  /** A copy of `id` that belongs to root and has the setuid bit. */
  readonly setuid: string
}

/** `holds`, `open`, or words where there is nothing to test. */
export type Cell = "holds" | "open" | (string & {})

export interface Attack {
  readonly name: string
  readonly script: (facts: Facts) => string
  /** By mode, in the order of `modeNames`. */
  readonly cells: readonly [Cell, Cell, Cell, Cell, Cell, Cell]
  /** Whether it is a danger to the service and to other attempts, which must still be well then. */
  readonly isDangerous?: boolean
}

export const cellOf = ({ cells }: Pick<Attack, "cells">, mode: ModeName): Cell => cells[modeNames.indexOf(mode)] ?? ""

/** A word that neither a shell nor, within quotes, perl interprets. */
export const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`

/** Perl from standard input, so that nothing of it stands among the arguments of a process. */
export const perl = (text: string): string => `perl - <<'END_OF_PERL'
use strict;
use Fcntl;
use POSIX ();
$| = 1;
my $arm = (POSIX::uname())[4] eq 'aarch64';
sub pids { opendir(my $folder, '/proc') or return (); grep { /^\\d+$/ } readdir $folder }
# What is not this program, or the command that started it.
sub others { grep { $_ != $$ && $_ != getppid() } pids() }
# What is not of its sandbox, which is one process group.
sub strangers { grep { my $group = getpgrp($_); $group >= 0 && $group != getpgrp(0) } others() }
sub slurp { my ($path) = @_; sysopen(my $file, $path, O_RDONLY | O_NONBLOCK) or return ''; local $/; my $all = <$file>; defined $all ? $all : '' }
sub opens { my ($path, $mode) = @_; sysopen(my $file, $path, $mode | O_NONBLOCK) }
${text}
END_OF_PERL`

const list = (words: ReadonlyArray<string>): string =>
  `(${words.map((word) => `'${word.replaceAll(/[\\']/g, "\\$&")}'`).join(", ")})`

const descriptors: Attack = {
  name: "has descriptors beside 0, 1 and 2",
  // Without a redirection, for which a shell opens some itself.
  script: () => `perl -e 'for (glob "/proc/" . getppid() . "/fd/*") { print "$_ ", readlink, "\n" unless m{/[012]$} }'`,
  cells: ["holds", "holds", "holds", "holds", "holds", "holds"],
}

const seesProcesses: Attack = {
  name: "sees the service's processes and those of other attempts in `/proc`",
  script: ({ servicePid, victim }) =>
    perl(`for (others()) {
  my $command = slurp("/proc/$_/cmdline");
  print "the service\\n" if $_ == ${servicePid} && $command =~ /main\\.js/;
  print "an attempt\\n" if index($command, '${victim}') >= 0;
}`),
  cells: ["holds", "holds", "holds", "open", "open", "open"],
}

const uncover = `umount /proc; umount -l /proc; mount -t proc proc /proc; mount -t tmpfs none /proc; mount --bind / /mnt; mount -t proc proc /mnt`

const uncoversProc: Attack = {
  name: "takes its own `/proc` away to see the machine's, also from a user namespace of its own",
  script: ({ servicePid, victim }) => {
    const look = perl(`for (pids()) { print "found $_\\n" if index(slurp("/proc/$_/cmdline"), '${victim}') >= 0 }
print "the service\\n" if slurp("/proc/${servicePid}/cmdline") =~ /main\\.js/ && ${servicePid} != $$;
for (glob "/mnt/[0-9]*") { print "found $_\\n" if index(slurp("$_/cmdline"), '${victim}') >= 0 }`)
    return `{ ${uncover}; } 2>/dev/null
${look}
for kind in -Urm -Urmpf -Urmif; do unshare $kind sh 2>/dev/null <<'NESTED'
{ ${uncover}; } 2>/dev/null
${look}
NESTED
done
nsenter -t 1 -m true 2>/dev/null && echo "entered the namespace of process 1"
true`
  },
  cells: ["holds", "holds", "holds", "nothing is covered", "nothing is covered", "nothing is covered"],
}

const readsSecrets: Attack = {
  name: "reads the secrets of the service in an environment",
  script: () =>
    perl(`for (others()) {
  my $all = slurp("/proc/$_/environ");
  print "environ of $_\\n" if index($all, '${webhookSecret}') >= 0 || index($all, 'mallory-key-') >= 0;
}
print "its own\\n" if grep { /${webhookSecret.replaceAll(/\W/g, "\\$&")}|mallory-key-/ } %ENV;`),
  cells: ["holds", "holds", "holds", "holds", "holds", "holds"],
}

const readsOthersSecrets: Attack = {
  name: "reads a secret that another resource gives to its command",
  script: () =>
    perl(`for (others()) {
  my $all = slurp("/proc/$_/environ");
  print "environ of $_\\n" if index($all, '${resourceSecret}') >= 0 && index($all, '${webhookSecret}') < 0;
}`),
  cells: ["holds", "holds", "holds", "open", "open", "open"],
}

const killsAll: Attack = {
  isDangerous: true,
  name: "sends SIGSTOP, SIGTERM and SIGKILL to everything that it can name",
  script: ({ servicePid }) => `for signal in STOP TERM KILL; do kill -$signal -1 ${servicePid} 2>/dev/null; done; true`,
  cells: ["holds", "holds", "holds", "**does not hold**", "**does not hold**", "**does not hold**"],
}

const takesOver: Attack = {
  isDangerous: true,
  name: "takes a process over: `ptrace`, `pidfd_getfd`, `process_vm_readv`, `/proc/<pid>/mem`, `/proc/<pid>/fd`",
  script: ({ servicePid }) =>
    perl(`my ($ptrace, $pidfd_open, $pidfd_getfd, $readv) = $arm ? (117, 434, 438, 270) : (101, 434, 438, 310);
my ($buffer, $nowhere) = ('x' x 8, pack('QQ', 1, 8));
my $local = pack('PQ', $buffer, 8);
for my $pid (grep { $_ != $$ && $_ != getppid() } (pids(), ${servicePid}, 1)) {
  if (syscall($ptrace, 0x4206, $pid, 0, 0) == 0) { print "seized $pid\\n"; next }
  print "attached to $pid\\n" if syscall($ptrace, 16, $pid, 0, 0) == 0;
  my $handle = syscall($pidfd_open, $pid, 0);
  for my $fd (0 .. 30) { print "took descriptor $fd of $pid\\n" if $handle >= 0 && syscall($pidfd_getfd, $handle, $fd, 0) >= 0 }
  print "read the memory of $pid\\n" if syscall($readv, $pid, $local, 1, $nowhere, 1, 0) >= 0 || $!{EFAULT};
  print "opened the memory of $pid\\n" if opens("/proc/$pid/mem", O_RDWR);
  print "saw a descriptor of $pid\\n" if grep { defined readlink } glob "/proc/$pid/fd/*";
  print "entered the root of $pid\\n" if opendir(my $root, "/proc/$pid/root/");
  print "entered the folder of $pid\\n" if opendir(my $cwd, "/proc/$pid/cwd/");
}`),
  cells: ["holds", "holds", "holds", "open", "open", "open"],
}

const signals: Attack = {
  isDangerous: true,
  name: "can signal the service or another attempt",
  script: () => perl(`for (strangers()) { print "can signal $_\\n" if kill(0, $_) }`),
  cells: ["holds", "holds", "holds", "open", "open", "open"],
}

/** Gives back what it could rename, so that a test of a mode that is open can go on. */
const opensStore: Attack = {
  isDangerous: true,
  name: "opens, renames or deletes the store or the spool by path",
  script: ({ data, dataFiles }) =>
    perl(`my ($data, @files) = ${list([data, ...dataFiles])};
my @roots = ('', map { ("/proc/$_/root", "/proc/$_/cwd/../../../../../../..") } others());
for my $root (@roots) {
  for (@files) { print "opened $root$_\\n" if opens("$root$_", O_RDWR) || opens("$root$_", O_RDONLY) }
  for ($data, @files) {
    next unless rename("$root$_", "$root$_.moved");
    print "renamed $root$_\\n";
    rename("$root$_.moved", "$root$_");
  }
}
for (map { glob "/proc/$_/fd/*" } others()) { my $to = readlink($_); print "$_ leads to $to\\n" if defined $to && index($to, $data) == 0 }
print "removed $data\\n" if rmdir($data);`),
  cells: ["holds", "holds", "holds", "open", "holds", "open"],
}

const movesParent: Attack = {
  name: "renames the folder that `OFFLOAD_DATA` is in, where its user may",
  script: ({ data }) =>
    perl(`my ($parent) = '${data}' =~ m{^(.*)/};
if (rename($parent, "$parent.moved")) { print "renamed $parent\\n"; rename("$parent.moved", $parent) or print "and could not undo it: $!\\n" }`),
  cells: ["open", "open", "holds", "open", "holds", "open"],
}

const entersAttempts: Attack = {
  name: "enters the folders of another attempt, or reads the file that starts it",
  script: () =>
    perl(`my @roots = grep { defined } map { my $work = slurp("/proc/$_/environ") =~ /TMPDIR=(\\/[^\\0]*\\/offload-[^\\/]*)/ ? $1 : undef } ($$);
my $own = $ENV{TMPDIR};
for my $path (map { (glob("$_/*/*/*"), glob("$_/*/*"), glob("$_/*/launch")) } @roots) {
  next if index("$path/", "$own/") == 0;
  print "found $path\\n" if $path =~ /private|launch$/ && opens($path, O_RDWR);
}
for (strangers()) { print "found $_\\n" if opens("/proc/$_/cwd/private", O_RDWR) }`),
  cells: ["holds", "holds", "holds", "open", "open", "open"],
}

const sharesMemory: Attack = {
  name: "finds shared memory of another attempt (`/dev/shm`, System V)",
  script: ({ victim }) =>
    perl(`print "found $_\\n" for glob '/dev/shm/${victim}*';
my $segments = () = slurp('/proc/sysvipc/shm') =~ /\\n\\s*\\d+\\s+\\d+/g;
my $id = shmget(0x0ff10ad, 0, 0);
print "found a segment\\n" if defined $id;`),
  cells: ["holds", "holds", "holds", "open", "open", "open"],
}

const sharesFiles: Attack = {
  name: "reads a file that another attempt wrote into `/tmp`",
  script: ({ victim }) => `cat /tmp/${victim}.shared 2>/dev/null; true`,
  cells: ["open", "open", "open", "open", "open", "open"],
}

const hasPrivileges: Attack = {
  name: "has privileges, or gets them from a setuid program",
  script: ({ setuid }) => `while read -r name value; do
  case $name in
    CapInh:|CapPrm:|CapEff:|CapAmb:) case $value in *[!0]*) echo "$name $value";; esac;;
    NoNewPrivs:) [ "$value" = 1 ] || echo "$name $value";;
  esac
done </proc/self/status
[ "$(id -u)" = 0 ] || [ "$(${quote(setuid)} -u 2>/dev/null)" != 0 ] || echo "became root"
[ "$(id -u)" != 0 ] || { chown 1:1 . && echo "gave a file away"; } 2>/dev/null
{ mount -t tmpfs none /mnt && echo "mounted"; } 2>/dev/null
true`,
  cells: ["holds", "holds", "holds", "holds", "holds", "holds"],
}

const writesKernel: Attack = {
  name: "writes settings of the kernel (`/proc/sys`, `/sys`, `/proc/sysrq-trigger`)",
  script: () =>
    // Everybody may open the last process id, and nobody may write it.
    perl(`for (glob('/proc/sys/kernel/* /proc/sys/vm/* /proc/sys/fs/* /sys/kernel/* /sys/kernel/mm/*/* /sys/power/* /sys/module/*/parameters/*'), '/proc/sysrq-trigger') {
  print "opened $_\\n" if -f $_ && !/ns_last_pid$/ && opens($_, O_WRONLY);
}`),
  cells: ["holds", "holds", "holds", "open", "holds", "holds"],
}

const writesMachine: Attack = {
  name: "writes the machine's files, or its disks past them",
  script: () =>
    perl(
      `for ('/etc/passwd', '/usr/bin/env', grep { -b $_ } glob '/dev/*') { print "opened $_\\n" if opens($_, O_RDWR | O_APPEND) }`,
    ),
  cells: ["holds", "open", "holds", "open", "holds", "holds"],
}

const leavesCgroup: Attack = {
  name: "leaves its control group",
  script: () =>
    perl(`my $before = slurp('/proc/self/cgroup');
for (map { (split ' ')[4] } grep { / - cgroup2? / } split /\\n/, slurp('/proc/self/mountinfo')) {
  next unless sysopen(my $file, "$_/cgroup.procs", O_WRONLY);
  syswrite($file, '0');
}
print "left it\\n" if slurp('/proc/self/cgroup') ne $before;`),
  cells: ["there is none", "holds", "holds", "open", "holds", "there is none"],
}

const raisesLimits: Attack = {
  name: "raises its limits of memory, files, open files, processor time or processes",
  script: () => `try() {
  for limit in v f n t; do ulimit -$limit unlimited 2>/dev/null && echo "raised -$limit $1"; done
  [ "$(id -u)" = 0 ] || ! prlimit --nproc=unlimited 2>/dev/null || echo "raised --nproc $1"
}
(try) 2>/dev/null
unshare -Ur sh -c 'for limit in v f n t; do ulimit -$limit unlimited 2>/dev/null && echo "raised -$limit as its own root"; done; true' 2>/dev/null
true`,
  cells: ["holds", "holds", "holds", "holds", "holds", "holds"],
}

export const attacks: ReadonlyArray<Attack> = [
  descriptors,
  seesProcesses,
  uncoversProc,
  readsSecrets,
  readsOthersSecrets,
  takesOver,
  signals,
  killsAll,
  opensStore,
  movesParent,
  entersAttempts,
  sharesMemory,
  sharesFiles,
  hasPrivileges,
  writesKernel,
  writesMachine,
  leavesCgroup,
  raisesLimits,
]
