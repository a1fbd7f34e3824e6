# The launcher: one small process beside the service, of which each sandbox is a fork. Nothing is executed between the
# two but the command itself, so that a sandbox costs two forks and a few system calls.
#
#   launcher ── leader of a sandbox (in a namespace: its first process) ── the command's process
#
# From the service, on standard input: frames. A frame is a length and that many bytes, which are words: a length and
# that many bytes each (`pack "N/a*", pack "(N/a*)*", @words`). A word is any bytes; nothing is quoted or interpreted.
#   make <id> <token> <folder> <socket> <name> <user> <kind> <mark> <join> <kill> (<type> <from> <to>)…
#     Makes a sandbox.
#     <name>  its folders are <folder>/<name>/<name> and <folder>/<name>/tmp; it removes them at its end if they are empty
#     <user>  `uid gid group…` of its command, or empty: the service's own
#     <kind>  `namespace`, `user-namespace`, `group`, or `bare`: a group whose leader adopts nothing
#     <mark>  its RLIMIT_RTTIME: see Marker.ts
#     <join>, <kill>  the files of its cgroup, or empty; the cgroup is removed at its end
#     <type> <from> <to>  what it mounts, in this order
#   signal <id> <name> <leader|group>
#     Sends a signal to a sandbox that has not been reported as ended: its number cannot be another's yet.
#
# To the service, on standard output: lines.
#   hello <adopts> <limits>        once: whether leaders adopt what loses its parent, whether limits can be set
#   refused <id> <errno> <words>   no process could be made for it
#   ended <id> <status>            its leader is gone, with the status of waitpid(2); of a namespace: all of it is gone
#
# Each sandbox connects four times to the service's <socket> in <folder>: the command's standard streams (0, 1, 2) and
# control (c). It writes <token> and that letter first. On control it writes lines:
#   ready                          it waits for its command
#   failed <errno> <words>         the command does not begin
#   begin                          the command is executed now
#   ended <code>                   it has ended, and nothing of the sandbox is left but its leader
# and reads one frame: <folder> <limits> <count> <argument>… <variable=value>…
#   <limits>: `name=number …`. <count>: how many arguments.
use strict;
use warnings;
no warnings 'exec';
use Config;
use Errno ();
use POSIX ();
use Socket ();

# By architecture, as <asm/unistd.h> has them. Elsewhere there are neither namespaces nor adoption.
my %numbers = (
  x86_64 => { clone => 56, mount => 165, prctl => 157, prlimit => 302, ppoll => 271, capset => 126,
    waitid => 247 },
  generic => { clone => 220, mount => 40, prctl => 167, prlimit => 261, ppoll => 73, capset => 91,
    waitid => 95 },
);
my ($machine, $system) = $Config{archname} =~ /^(\w+?)-(linux)/ && $Config{ptrsize} == 8 ? ($1, $2) : ('', $^O);
$machine = 'generic' if $machine =~ /^(aarch64|riscv64|loongarch64)$/;
my %call = %{ $system eq 'linux' && $numbers{$machine} || {} };
$call{setrlimit} = 195 if $^O eq 'darwin';

# <linux/sched.h>, <sys/mount.h>, <linux/prctl.h>, <poll.h>, <linux/wait.h>
my %clone = (newns => 0x20000, newipc => 0x08000000, newuser => 0x10000000, newpid => 0x20000000, sigchld => 17);
my %ms = (rdonly => 1, nosuid => 2, nodev => 4, noexec => 8, remount => 32, bind => 4096, rec => 16384, private => 1 << 18);
my %pr = (pdeathsig => 1, dumpable => 4, capbset_read => 23, capbset_drop => 24, subreaper => 36, no_new_privs => 38,
  cap_ambient => 47);
my ($in, $hang_up) = (1, 0x2010);
my %wait = (exited => 4, nohang => 1, nowait => 0x01000000);

# <sys/resource.h>
my %limit = $^O eq 'darwin'
  ? (processor => 0, file => 1, memory => 5, processes => 7, files => 8)
  : (processor => 0, file => 1, processes => 6, files => 7, memory => 9, mark => 15);

# What the machine does not make for want of room, and not for a fault of the command.
my %no_room = map { $_ => 1 } Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE, Errno::E2BIG, Errno::ETXTBSY;

# A leader has to look at its service and at its children at once. All signals are blocked, but for these, while it waits.
my $waiting_mask = pack 'Q', ~(1 << POSIX::SIGCHLD - 1 | 1 << POSIX::SIGUSR1 - 1);
my $killing = 0;

sub fail { die [$! + 0, join ' ', @_] }
sub checked { my ($what, $result) = @_; fail($what) unless defined $result && $result != -1; $result }

sub prctl {
  my ($option, $value, @more) = @_;
  return 0 unless $call{prctl};
  syscall $call{prctl}, $pr{$option}, $value + 0, $more[0] // 0, 0, 0;
}

sub mount {
  my ($from, $to, $type, $flags, $options) = @_;
  my $data = defined $options ? "$options" : 0;
  checked("mount $to", syscall $call{mount}, "$from", "$to", "$type", $flags, $data);
}

sub set_limit {
  my ($name, $number) = @_;
  my $value = pack 'QQ', $number, $number;
  my $result =
      $call{prlimit}   ? syscall $call{prlimit}, 0, $limit{$name}, $value, 0
    : $call{setrlimit} ? syscall $call{setrlimit}, $limit{$name}, $value
    :                    -1;
  checked("limit of $name", $result);
}

# Waits for events of a handle, or for a signal; answers the events.
sub wait_for {
  my ($handle, $events) = @_;
  if ($call{ppoll}) {
    my $poll = pack 'iss', fileno $handle, $events, 0;
    return syscall($call{ppoll}, $poll, 1, 0, $waiting_mask, 8) > 0 ? (unpack 'iss', $poll)[2] : 0;
  }
  # No system call that does both: it looks again and again.
  POSIX::sigprocmask(POSIX::SIG_SETMASK, POSIX::SigSet->new);
  vec(my $bits = '', fileno $handle, 1) = 1;
  my $found = select $bits, undef, undef, 0.02;
  POSIX::sigprocmask(POSIX::SIG_SETMASK, all_signals());
  return 0 unless $found > 0;
  return $in if $events == $in;
  # Its peer has closed it where there is something to read that is nothing.
  my $end = recv $handle, my $byte, 1, Socket::MSG_PEEK;
  return defined $end && length $byte ? 0 : $hang_up;
}

sub all_signals { my $all = POSIX::SigSet->new; $all->fillset; $all }

# The words of the next frame in a buffer, which loses it; nothing while it is not whole.
sub frame {
  my ($buffer) = @_;
  return if length $$buffer < 4;
  my $length = unpack 'N', $$buffer;
  return if length $$buffer < 4 + $length;
  my @words = unpack '(N/a*)*', substr $$buffer, 4, $length;
  substr $$buffer, 0, 4 + $length, '';
  return @words;
}

# ── The command's process ──────────────────────────────────────────────────────────────────────────────────────────

sub become {
  my ($uid, $gid, @groups) = split ' ', shift;
  my $is_root = $> == 0;
  # A program with privileges of its own gives them to nobody here, also to root.
  for my $capability (0 .. 63) {
    my $is_bound = prctl('capbset_read', $capability);
    last if $is_bound < 0;
    fail('bounding set') if $is_bound && prctl('capbset_drop', $capability) != 0 && $is_root;
  }
  prctl('cap_ambient', 4);
  if (defined $uid) {
    $! = 0;
    $) = join ' ', $gid, $gid, @groups;
    fail('groups') if $!;
    checked('group', POSIX::setgid($gid));
    checked('user', POSIX::setuid($uid));
  }
  if ($call{capset}) {
    my ($header, $none) = (pack('LL', 0x20080522, 0), pack 'L6', (0) x 6);
    checked('capabilities', syscall $call{capset}, $header, $none);
  }
  checked('no_new_privs', prctl('no_new_privs', 1));
}

sub receive_launch {
  my ($control) = @_;
  my $buffer = '';
  while (1) {
    my @words = frame(\$buffer);
    return @words if @words;
    my $count = sysread $control, $buffer, 1 << 18, length $buffer;
    # The service does not need it any more, or has ended.
    POSIX::_exit(0) unless $count;
  }
}

sub run_command {
  my ($user, $control, @streams) = @_;
  # Perl ignores SIGFPE; the others are those of the launcher and of the leader.
  $SIG{$_} = 'DEFAULT' for qw(CHLD USR1 PIPE FPE);
  POSIX::sigprocmask(POSIX::SIG_SETMASK, POSIX::SigSet->new);
  my ($folder, $limits, $count, @words) = receive_launch($control);
  my @command = splice @words, 0, $count;
  eval {
    chdir $folder or fail('folder');
    my %limits = map { split /=/, $_, 2 } split ' ', $limits;
    POSIX::dup2(fileno $streams[$_], $_) // fail('streams') for 0 .. 2;
    %ENV = map { split /=/, $_, 2 } @words;
    # In its address space, little room may be left.
    my $memory = delete $limits{memory};
    set_limit($_, $limits{$_}) for keys %limits;
    become($user);
    syswrite $control, "begin\n";
    set_limit(memory => $memory) if defined $memory;
    exec { $command[0] } @command;
    fail($no_room{ $! + 0 } ? 'room' : 'command');
  };
  tell_failure($control, $@);
  POSIX::_exit(127);
}

# ── The leader of a sandbox ────────────────────────────────────────────────────────────────────────────────────────

sub tell_failure {
  my ($control, $error) = @_;
  my ($number, $words) = ref $error ? @$error : (0, $error);
  $words =~ tr/\n/ /;
  syswrite $control, "failed $number $words\n";
}

sub write_file {
  my ($path, $text) = @_;
  open my $file, '>', $path or fail($path);
  defined syswrite $file, $text or fail($path);
}

# The user keeps its own name in a user namespace.
sub map_user {
  my ($uid, $gid) = @_;
  write_file('/proc/self/setgroups', 'deny');
  write_file('/proc/self/uid_map', "$uid $uid 1");
  write_file('/proc/self/gid_map', "$gid $gid 1");
}

sub make_folders {
  my ($name, $user) = @_;
  my ($uid, $gid) = split ' ', $user;
  mkdir $name, defined $uid ? 0711 : 0700 or fail('scratch');
  for my $folder ("$name/$name", "$name/tmp") {
    mkdir $folder, 0700 or fail('scratch');
    !defined $uid or chown $uid, $gid, $folder or fail('scratch');
  }
}

sub remove_folders {
  my ($root, $name) = @_;
  chdir $root;
  rmdir for "$name/$name", "$name/tmp", $name;
}

sub mount_all {
  my @mounts = @_;
  mount('none', '/', '', $ms{rec} | $ms{private});
  mount('proc', '/proc', 'proc', $ms{nosuid} | $ms{noexec} | $ms{nodev});
  while (my ($type, $from, $to) = splice @mounts, 0, 3) {
    if ($type eq 'tmpfs') { mount($from, $to, 'tmpfs', $ms{nosuid} | $ms{nodev}, 'mode=1777'); next }
    mount($from, $to, '', $ms{bind});
    next if $type ne 'readonly';
    mount('none', $to, '', $ms{remount} | $ms{bind} | $ms{rdonly} | $ms{nosuid} | $ms{nodev} | $ms{noexec});
  }
}

sub connect_to {
  my ($socket, $words) = @_;
  socket my $handle, Socket::PF_UNIX, Socket::SOCK_STREAM, 0 or fail('socket');
  # By its name alone: a path may be too long for an address, and is covered in a namespace.
  connect $handle, Socket::pack_sockaddr_un($socket) or fail('the socket of the service');
  syswrite $handle, $words;
  return $handle;
}

# Those that lost their parent are among them, where it adopts.
sub children {
  if (open my $file, '<', "/proc/$$/task/$$/children") { return split ' ', <$file> // '' }
  # A kernel without that file.
  my @found;
  for my $path (glob '/proc/[0-9]*/stat') {
    open my $file, '<', $path or next;
    push @found, $1 if (<$file> // '') =~ /^(\d+) .*\) \S $$ /;
  }
  return @found;
}

sub lead {
  my ($control, $command, $kind, $kill_file, $root, $name) = @_;
  my ($status, $pid) = (0);
  while (1) {
    while (($pid = waitpid -1, POSIX::WNOHANG) > 0) { ($status, $killing) = ($?, 1) if $pid == $command }
    last if $pid < 0;
    if (!$killing) {
      next unless wait_for($control, 0x2000);
      # The service has ended, or wants no more of it.
      $killing = 1;
      if ($kill_file ne '') { eval { write_file($kill_file, '1') } }
    }
    if ($kind =~ /namespace/) {
      kill KILL => -1;
      while (($pid = waitpid -1, 0) > 0) { $status = $? if $pid == $command }
      last;
    }
    last if $kind eq 'bare';
    kill KILL => children();
    select undef, undef, undef, 0.002;
  }
  my $code = $status & 127 ? 128 + ($status & 127) : $status >> 8;
  syswrite $control, "ended $code\n";
  remove_folders($root, $name);
  # Without adoption it reaches its group alone, which it is part of.
  kill KILL => -getpgrp if $kind eq 'bare';
  POSIX::_exit($code);
}

sub be_sandbox {
  my ($ids, $token, $folder, $socket, $name, $user, $kind, $mark, $join, $kill_file, @mounts) = @_;
  my $is_namespace = $kind =~ /namespace/;
  my $control;
  $0 = 'offload-sandbox';
  eval {
    open STDIN, '<', '/dev/null' or fail('/dev/null');
    open STDOUT, '>', '/dev/null' or fail('/dev/null');
    $SIG{USR1} = sub { $killing = 1 };
    # What leads to the service is found from here, whatever is mounted.
    chdir $folder or fail('scratch');
    opendir $root, '.' or fail('scratch');
    prctl('dumpable', 1);
    map_user(@$ids) if $kind eq 'user-namespace';
    # Whoever kills the launcher ends its sandboxes: a group in its own way.
    prctl('pdeathsig', $is_namespace ? POSIX::SIGKILL : POSIX::SIGUSR1);
    POSIX::setsid();
    write_file($join, '0') if $join ne '';
    set_limit(mark => $mark) if $call{prlimit};
    prctl('subreaper', 1) if $kind eq 'group';
    make_folders($name, $user);
    mount_all(@mounts) if $is_namespace;
    my @streams = map { connect_to($socket, "$token$_") } 0 .. 2;
    $control = connect_to($socket, "${token}c");
    chdir '/';
    my $command = fork // fail('fork');
    run_command($user, $control, @streams) if $command == 0;
    @streams = ();
    syswrite $control, "ready\n";
    lead($control, $command, $kind, $kill_file, $root, $name);
  };
  $control //= eval { connect_to($socket, "${token}c") };
  tell_failure($control, $@) if defined $control;
  remove_folders($root, $name) if defined $root;
  POSIX::_exit(1);
}

# ── The launcher ───────────────────────────────────────────────────────────────────────────────────────────────────

my (%pid_of, %id_of, %cgroup_of);

sub say_line { syswrite STDOUT, "@_\n" }

sub make {
  my ($id, @order) = @_;
  my $kind = $order[5];
  my $ids = [$>, (split ' ', $))[0]];
  my $flags = $clone{newns} | $clone{newipc} | $clone{newpid} | $clone{sigchld};
  $flags |= $clone{newuser} if $kind eq 'user-namespace';
  my $pid =
      $kind !~ /namespace/ ? fork
    : $call{clone}     ? syscall $call{clone}, $flags, 0, 0, 0, 0
    :                    do { $! = Errno::ENOSYS; undef };
  if (!defined $pid || $pid < 0) { say_line('refused', $id, $! + 0, $kind); return }
  be_sandbox($ids, @order) if $pid == 0;
  ($pid_of{$id}, $id_of{$pid}) = ($pid, $id);
  ($cgroup_of{$id}) = $order[7] =~ m{^(.*)/};
}

sub send_signal {
  my ($id, $name, $target) = @_;
  my $pid = $pid_of{$id} // return;
  kill $name => $target eq 'group' ? -$pid : $pid;
}

# What a leader has left behind in its group is killed while its number is still its own.
sub next_ended {
  if ($call{waitid}) {
    my $info = "\0" x 128;
    syscall $call{waitid}, 0, 0, $info, $wait{exited} | $wait{nohang} | $wait{nowait}, 0;
    my $pid = unpack 'x16 l', $info or return 0;
    kill KILL => -$pid;
  }
  return waitpid -1, POSIX::WNOHANG;
}

sub reap {
  while ((my $pid = next_ended()) > 0) {
    my $id = delete $id_of{$pid} // next;
    delete $pid_of{$id};
    my $cgroup = delete $cgroup_of{$id};
    rmdir $cgroup if defined $cgroup;
    say_line('ended', $id, $?);
  }
}

# What the service had open when it started this process, is closed before any sandbox is made of it.
sub close_inherited {
  opendir my $folder, '/proc/self/fd' or return map { POSIX::close($_) } 3 .. 255;
  my @open = grep { /^\d+$/ && $_ > 2 } readdir $folder;
  closedir $folder;
  POSIX::close($_) for @open;
}

sub main {
  close_inherited();
  $0 = 'offload-launcher';
  prctl('pdeathsig', POSIX::SIGKILL);
  prctl('dumpable', 0);
  POSIX::sigprocmask(POSIX::SIG_SETMASK, all_signals());
  $SIG{CHLD} = sub { };
  $SIG{PIPE} = 'IGNORE';
  say_line('hello', $call{prctl} ? 1 : 0, $call{prlimit} || $call{setrlimit} ? 1 : 0);
  my $buffer = '';
  while (1) {
    my $events = wait_for(\*STDIN, $in);
    reap();
    next unless $events;
    sysread STDIN, $buffer, 1 << 16, length $buffer or POSIX::_exit(0);
    while (my ($verb, @words) = frame(\$buffer)) {
      if ($verb eq 'make') { make(@words) }
      elsif ($verb eq 'signal') { send_signal(@words) }
    }
  }
}

main();
