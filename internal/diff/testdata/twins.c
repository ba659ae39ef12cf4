// cc: gcc -O2 -fPIC -shared
// MOVED: patchable parse prolog entity
//
// set_prolog and set_entity have one body. In the other build they changed
// places, with all that they refer to and all that calls them: only what they
// refer to can tell them apart.
#include <stdio.h>
#include <string.h>
struct parser {
	int (*next)(struct parser *, const char *);
	int depth, event;
};
#ifdef MOVED
#define CHECK if (p->event < 0) return -1;
#else
#define CHECK
#endif
static int prolog(struct parser *p, const char *s);
static int entity(struct parser *p, const char *s);
#define PROLOG \
	__attribute__((noipa, no_reorder)) static int prolog(struct parser *p, const char *s) \
	{ \
		CHECK \
		return p->depth + (int)strlen(s); \
	} \
	__attribute__((noipa, no_reorder)) static int set_prolog(struct parser *p, const char *s) \
	{ \
		p->next = prolog; \
		return prolog(p, s) + 1; \
	}
#define ENTITY \
	__attribute__((noipa, no_reorder)) static int entity(struct parser *p, const char *s) \
	{ \
		CHECK \
		for (int i = 0; s[i]; i++) { \
			if (s[i] == '&') \
				p->depth++; \
			else if (s[i] == ';' && p->depth > 0) \
				p->depth--; \
			else if (s[i] == '<') \
				return i * 3 + p->event; \
		} \
		return p->depth * 7; \
	} \
	__attribute__((noipa, no_reorder)) static int set_entity(struct parser *p, const char *s) \
	{ \
		p->next = entity; \
		return entity(p, s) + 1; \
	}
#ifdef MOVED
PROLOG
ENTITY
#else
ENTITY
PROLOG
#endif
int parse(struct parser *p, const char *s, int inside)
{
	int got;
#ifdef MOVED
	if (!s)
		return -2;
	got = inside > 1 ? set_entity(p, s) : set_prolog(p, s);
#else
	got = inside ? set_entity(p, s) : set_prolog(p, s);
#endif
	return printf("%d of %s\n", got, s);
}
