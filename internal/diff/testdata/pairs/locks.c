// cc: gcc -O2 -fPIC -shared
// MOVED: refused lock-protocol
// OTHER: refused lock-protocol
// COUNTED: refused lock-protocol
// FIELD: refused lock-protocol
// UNLOCK: patchable inside
// WIDER: patchable inside
// Locks that one function takes and another one gives back.
#include <pthread.h>
#include <semaphore.h>
extern int work(int);
static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER, two = PTHREAD_MUTEX_INITIALIZER;
static sem_t sem;
static int n;
#ifdef OTHER
#define GLOBAL two
#else
#define GLOBAL one
#endif
void begin(int x) {
#ifndef MOVED
  pthread_mutex_lock(&GLOBAL);
#endif
  n = work(x);
}
void end(int x) {
  n = work(x) + 1;
#ifdef MOVED
  work(8);
#else
  pthread_mutex_unlock(&GLOBAL);
#endif
}
int enter(int x) {
#ifdef COUNTED
  sem_wait(&sem);
#endif
  return work(x + 7);
}
void leave(int x) {
  work(x + 9);
#ifdef COUNTED
  sem_post(&sem);
#endif
}
int inside(int x) {
#ifdef WIDER
  pthread_mutex_lock(&two);
#endif
  int r = work(x);
#ifndef WIDER
  pthread_mutex_lock(&two);
#endif
  if (r < 0) {
#ifdef UNLOCK
    pthread_mutex_unlock(&two);
#endif
    return -1;
  }
  n += r;
  pthread_mutex_unlock(&two);
  return n;
}
int twice(void) {
  pthread_mutex_lock(&one);
  pthread_mutex_lock(&two);
  n++;
  pthread_mutex_unlock(&two);
  pthread_mutex_unlock(&one);
  return n;
}
#define USER(name, first, second) \
  int name(int x) { \
    pthread_mutex_lock(&first); \
    n += x; \
    pthread_mutex_unlock(&first); \
    pthread_mutex_lock(&second); \
    n ^= x; \
    pthread_mutex_unlock(&second); \
    return n; \
  }
USER(use1, one, two) USER(use2, two, one) USER(use3, one, two) USER(use4, two, one) USER(use5, one, one) USER(use6, two, two)
int post(void) { pthread_mutex_lock(&one); n++; pthread_mutex_unlock(&one); return sem_post(&sem); }

#ifdef FIELD
#define HELD b
#else
#define HELD a
#endif
struct queue { pthread_mutex_t a, b; long sum; };
int first(struct queue *q) {
  int e = pthread_mutex_lock(&q->HELD);
  if (e) return e;
  return work(q->sum += 3);
}
int final(struct queue *q) {
  int e = pthread_mutex_unlock(&q->HELD);
  if (e) return e;
  return work(q->sum -= 5);
}
