# A sandbox, in two processes: its leader, and the one that becomes the command. See launcher.pl for what they say.
use strict;
use warnings;
no warnings 'exec';
use Errno ();
use POSIX ();
use Socket ();
our (%call, %ms, $launcher);

# What the machine does not make for want of room, and not for a fault of the command.
my %no_room = map { $_ => 1 } Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE, Errno::E2BIG, Errno::ETXTBSY;

# Whether the leader ends what is in its sandbox.
my $killing = 0;

# The process of the command.

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

# The leader of the sandbox.

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

# In a namespace the launcher has no number, but in the /proc that is still mounted from before.
sub is_orphan {
  open my $file, '<', '/proc/self/stat' or return POSIX::getppid() != $launcher;
  return (<$file> // '') !~ /^\d+ .*\) \S $launcher /;
}

sub be_sandbox {
  my ($ids, $token, $folder, $socket, $name, $user, $kind, $mark, $join, $kill_file, @mounts) = @_;
  my $is_namespace = $kind =~ /namespace/;
  my ($control, $root);
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
    # It may have ended before this was asked for.
    POSIX::_exit(1) if is_orphan();
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

1;
