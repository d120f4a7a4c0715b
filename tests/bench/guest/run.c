/* run FILE PROGRAM ARGUMENT...: starts the program and writes into FILE the seconds from before fork to its end, the
 * peak of its memory in bytes, and its exit code. Small itself, since what a process inherits counts into its peak, and
 * as quick as can be, since it is a part of what it measures. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
  struct timespec began, ended;
  struct rusage usage;
  int status;
  if (argc < 3)
    return 64;
  clock_gettime(CLOCK_MONOTONIC, &began);
  pid_t pid = fork();
  if (pid == 0) {
    execv(argv[2], argv + 2);
    _exit(127);
  }
  if (pid < 0 || wait4(pid, &status, 0, &usage) < 0)
    return 71;
  clock_gettime(CLOCK_MONOTONIC, &ended);
  FILE *file = fopen(argv[1], "w");
  if (!file)
    return 73;
  fprintf(file, "%.6f %ld %d\n", (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9,
          usage.ru_maxrss * 1024, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  return fclose(file) ? 74 : 0;
}
