package diff

import (
	"slices"

	"hotpatch/internal/module"
)

// A turn is a call that takes a lock or gives it back.
type turn struct {
	family string
	object uint64 // which lock, where that is known: a variable, or a field of what the function is given
	either bool   // one of several, as the way through the function decides
	take   bool
}

// lockCalls are the functions that take a lock or give it back, with the kind of lock.
var lockCalls = func() map[string]turn {
	out := make(map[string]turn)
	for family, calls := range map[string][2][]string{
		"mutex":     {{"pthread_mutex_lock", "pthread_mutex_trylock", "pthread_mutex_timedlock", "pthread_mutex_clocklock"}, {"pthread_mutex_unlock"}},
		"rwlock":    {{"pthread_rwlock_rdlock", "pthread_rwlock_wrlock", "pthread_rwlock_tryrdlock", "pthread_rwlock_trywrlock"}, {"pthread_rwlock_unlock"}},
		"spin":      {{"pthread_spin_lock", "pthread_spin_trylock"}, {"pthread_spin_unlock"}},
		"semaphore": {{"sem_wait", "sem_trywait", "sem_timedwait", "sem_clockwait"}, {"sem_post"}},
		"mtx":       {{"mtx_lock", "mtx_trylock", "mtx_timedlock"}, {"mtx_unlock"}},
		"file":      {{"flockfile", "ftrylockfile"}, {"funlockfile"}},
		"openssl":   {{"CRYPTO_THREAD_read_lock", "CRYPTO_THREAD_write_lock"}, {"CRYPTO_THREAD_unlock"}},
		"glib":      {{"g_mutex_lock", "g_mutex_trylock", "g_rec_mutex_lock"}, {"g_mutex_unlock", "g_rec_mutex_unlock"}},
		"glib-rw":   {{"g_rw_lock_reader_lock", "g_rw_lock_writer_lock"}, {"g_rw_lock_reader_unlock", "g_rw_lock_writer_unlock"}},
	} {
		for _, name := range calls[0] {
			out[name] = turn{family: family, take: true}
		}
		for _, name := range calls[1] {
			out[name] = turn{family: family}
		}
	}
	return out
}()

// turns are the calls for locks in a body, in its order.
func (c *comparer) turns(m *module.Module, f *module.Func) []turn {
	var out []turn
	if !slices.ContainsFunc(f.Refs, func(r module.Ref) bool { return lockCalls[importName(m, r.Target)].family != "" }) {
		return nil
	}
	for _, s := range c.flowOf(m, f).sites {
		if t := lockCalls[importName(m, s.callee)]; t.family != "" {
			switch v := s.first; {
			case v.static && v.hash == mix(tagStatic, uint64(v.object)):
				t.object = v.hash
			case v.static:
				t.either = true
			case !v.vague:
				t.object = v.hash
				for _, d := range v.leaves {
					t.object = mix(t.object, uint64(d))
				}
			}
			out = append(out, t)
		}
	}
	return out
}

// judgeLocks notes a change that takes other locks, or in another order. It
// refuses when a function that only takes a lock, or only gives one back,
// does something else now: an old call may have taken what the new code does
// not give back, or the other way round.
func (c *comparer) judgeLocks(ch *Change) {
	old, now := c.turns(c.Old, ch.Old), c.turns(c.New, ch.New)
	if slices.Equal(old, now) {
		return
	}
	ch.Locks = true
	modes := func(list []turn) map[turn][2]bool {
		out := make(map[turn][2]bool)
		note := func(k turn, take bool) {
			m := out[k]
			m[0], m[1] = m[0] || take, m[1] || !take
			out[k] = m
		}
		for _, t := range list {
			if !t.either {
				note(turn{family: t.family, object: t.object}, t.take)
			}
		}
		for _, t := range list {
			for k := range out {
				if t.either && k.family == t.family {
					note(k, t.take)
				}
			}
		}
		return out
	}
	x, y := modes(old), modes(now)
	for _, k := range append(slices.Clone(old), now...) {
		k.take, k.either = false, false
		if a, b := x[k], y[k]; a != b && (a[0] != a[1] || b[0] != b[1]) {
			c.refuse(LockProtocol, ch.New.Name, "takes or gives back a lock (%s) alone, and did otherwise before: a lock may be held across the patch", k.family)
			return
		}
	}
}
