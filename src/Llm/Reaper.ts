/**
 * The leader of a process group that adopts whatever loses its parent in it (`PR_SET_CHILD_SUBREAPER` of prctl(2)):
 * a process cannot get away by leaving its session, or by clearing what it inherited, and none stays a zombie. When
 * the command has ended, or the service asks by SIGUSR1, it kills everything that is left, and then ends itself with
 * the command's exit code.
 *
 * It is a few lines of Perl, which Debian, and most of what is made from it, always has: no shell can make this call.
 */
import { find } from "./Executable.js"

/** The number of prctl(2), by Node's name of the architecture. */
const prctl: Readonly<Record<string, number>> = { x64: 157, arm64: 167 }

const script = `
use POSIX ":sys_wait_h";
my $prctl = shift;
syscall($prctl, 36, 1, 0, 0, 0) == 0 or die "no subreaper: $!\\n";
my $killing = 0;
$SIG{TERM} = sub {};
# waitpid goes on after a signal, so that it is the handler that gives it something to return for.
$SIG{USR1} = sub { $killing = 1; kill "KILL", children() };
my $main = fork;
defined $main or die "cannot fork: $!\\n";
if (!$main) { $SIG{TERM} = $SIG{USR1} = "DEFAULT"; exec @ARGV or die "$ARGV[0]: $!\\n" }
sub children {
  if (open(my $file, "<", "/proc/$$/task/$$/children")) { return split " ", <$file> // "" }
  # A kernel without that file.
  return map { open(my $file, "<", $_) && (<$file> // "") =~ /^(\\d+) .*\\) \\S $$ / ? $1 : () } glob "/proc/[0-9]*/stat";
}
close STDIN; close STDOUT; close STDERR;
my $status = 0;
while (1) {
  my $pid = $killing ? waitpid(-1, WNOHANG) : waitpid(-1, 0);
  if ($pid == $main) { $status = $?; $killing = 1 }
  next if $pid > 0;
  last if $pid < 0 && $!{ECHILD};
  next if !$killing;
  kill "KILL", children();
  select undef, undef, undef, 0.002;
}
exit($status & 127 ? 128 + ($status & 127) : $status >> 8);
`

/** What starts the shell of a group, where this machine has it; empty where it has not. */
export const reaper = (): ReadonlyArray<string> => {
  const perl = find("perl")
  const number = prctl[process.arch]
  return process.platform !== "linux" || perl === null || number === undefined
    ? []
    : [perl, "-e", script, String(number)]
}
