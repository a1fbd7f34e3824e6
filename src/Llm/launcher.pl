# The launcher: one small process beside the service, of which each sandbox is a fork. Nothing is executed between the
# two but the command itself, so that a sandbox costs two forks and a few system calls.
#
#   launcher ── leader of a sandbox (in a namespace: its first process) ── the command's process
#
# This file is the launcher, sandbox.pl the other two, system.pl what they ask of the system.
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
use Errno ();
use POSIX ();
our (%call, %clone, %wait, $in);
our $launcher = $$;

my ($here) = __FILE__ =~ m{^(.*)/};
require "$here/$_.pl" for 'system', 'sandbox';

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
