// cc: gcc -O2 -fPIC -shared
// LONGER: refused data-layout
// SHORTER: refused data-layout
// REAL: refused data-layout
// ENUM: refused data-layout
// DIMENSION: refused data-layout
// ROWS: refused data-layout
// SIGN: patchable lower
// BITS: patchable many
// A field of another type, an enum of another size, an array of another
// length; and what only reads a field otherwise.
enum kind {
  NONE, SOME,
#ifdef ENUM
  MANY = 0x100000000
#else
  MANY = 0x1000
#endif
};
struct s {
#ifdef LONGER
  long count;
#elif defined REAL
  float count;
#else
  int count;
#endif
#ifdef SHORTER
  short size;
#else
  int size;
#endif
  enum kind kind;
#ifdef DIMENSION
  int table[12];
#else
  int table[8];
#endif
  long tail;
#ifdef ROWS
  short rows[8][12];
#else
  short rows[8][8];
#endif
  unsigned char text[8];
};
long counted(struct s *s) { return s->count + 1; }
void sized(struct s *s, int n) { s->size = n; }
int kinds(struct s *s, struct s *t) { return s->kind == t->kind; }
long tail(struct s *s) { return s->tail + s->table[7]; }
int row(struct s *s, int i, int k) { return s->rows[i][k]; }
int lower(struct s *s) {
#ifdef SIGN
  return (signed char)s->text[3] < 0;
#else
  return s->text[3] < 32;
#endif
}
int many(struct s *s) {
#ifdef BITS
  return s->table[1] & 12 ? s->table[2] & 4 : 9;
#else
  return s->table[1] & 4 ? s->table[2] & 4 : 9;
#endif
}
