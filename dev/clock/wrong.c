// A clock on the wall that is wrong by WRONG_CLOCK seconds: cc -shared -fPIC -o wrong.so wrong.c, then LD_PRELOAD it.
// Only what people call the time is wrong. Clocks that measure durations go right, and waits until a moment wait as long as
// they should. (libfaketime 0.9.10 does not know cnd_timedwait, which librdkafka waits by: clients then stand still.)
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static time_t shift(void) {
  static _Atomic int known;
  static _Atomic time_t seconds;
  if (!known) {
    const char *set = getenv("WRONG_CLOCK");
    seconds = set ? atol(set) : 0;
    known = 1;
  }
  return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  int outcome = (int)syscall(SYS_clock_gettime, clock, at);
  if (outcome == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += shift();
  return outcome;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

int timespec_get(struct timespec *at, int base) {
  return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, at) == 0 ? base : 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}

// The moment was reckoned from the wrong clock. This is how librdkafka waits; Rust has its own locks.
int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until) {
  static int (*_Atomic real)(cnd_t *, mtx_t *, const struct timespec *);
  if (!real) real = (int (*)(cnd_t *, mtx_t *, const struct timespec *))dlsym(RTLD_NEXT, "cnd_timedwait");
  struct timespec right = *until;
  right.tv_sec -= shift();
  return real(cond, mutex, &right);
}
