/* Shifts the clocks of a process by the seconds found in a file: the time of day by those in
   CLOCK_SHIFT_FILE, the time that timers go by by those in TIMER_SHIFT_FILE. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    const char *path = clock == CLOCK_REALTIME    ? getenv("CLOCK_SHIFT_FILE")
                       : clock == CLOCK_MONOTONIC ? getenv("TIMER_SHIFT_FILE")
                                                  : NULL;
    if (result != 0 || path == NULL) return result;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return result;
    char text[32] = {0};
    if (read(file, text, sizeof text - 1) > 0) time->tv_sec += atoll(text);
    close(file);
    return result;
}
