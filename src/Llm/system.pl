# What the launcher and its sandboxes ask of the system: calls for which Perl has only numbers, and how they wait and read.
use strict;
use warnings;
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
our %call = %{ $system eq 'linux' && $numbers{$machine} || {} };
$call{setrlimit} = 195 if $^O eq 'darwin';

# <linux/sched.h>, <sys/mount.h>, <linux/prctl.h>, <poll.h>, <linux/wait.h>
our %clone = (newns => 0x20000, newipc => 0x08000000, newuser => 0x10000000, newpid => 0x20000000, sigchld => 17);
our %ms = (rdonly => 1, nosuid => 2, nodev => 4, noexec => 8, remount => 32, bind => 4096, rec => 16384, private => 1 << 18);
my %pr = (pdeathsig => 1, dumpable => 4, capbset_read => 23, capbset_drop => 24, subreaper => 36, no_new_privs => 38,
  cap_ambient => 47);
our ($in, $hang_up) = (1, 0x2010);
our %wait = (exited => 4, nohang => 1, nowait => 0x01000000);

# <sys/resource.h>
my %limit = $^O eq 'darwin'
  ? (processor => 0, file => 1, memory => 5, processes => 7, files => 8)
  : (processor => 0, file => 1, processes => 6, files => 7, memory => 9, mark => 15);

# A leader has to look at its service and at its children at once. All signals are blocked, but for these, while it waits.
my $waiting_mask = pack 'Q', ~(1 << POSIX::SIGCHLD - 1 | 1 << POSIX::SIGUSR1 - 1);

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

1;
