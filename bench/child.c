/*
 * What every contender runs for a job: reads its input to the end, waits while the file `hold` exists, then so many
 * milliseconds, and answers. Writes to the file `log` when it starts and when it ends, in nanoseconds of one clock.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void note(const char *file, const char *what) {
  struct timespec now;
  char line[64];
  clock_gettime(CLOCK_REALTIME, &now);
  int length = snprintf(line, sizeof line, "%s %lld%09ld\n", what, (long long)now.tv_sec, now.tv_nsec);
  int log = open(file, O_WRONLY | O_APPEND | O_CREAT, 0644);
  if (log < 0 || write(log, line, length) != length) exit(3);
  close(log);
}

int main(int argc, char **argv) {
  char input[4096];
  if (argc != 4) return 2;
  note(argv[2], "start");
  while (read(0, input, sizeof input) > 0) {}
  while (access(argv[3], F_OK) == 0) usleep(20000);
  usleep(1000 * atoi(argv[1]));
  if (write(1, "done\n", 5) != 5) return 3;
  note(argv[2], "end");
  return 0;
}
