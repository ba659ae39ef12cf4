/* Loops and intrinsics that make the compiler use every vector width, masks,
   broadcasts, gathers, conversions and compressed displacements. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define EACH(F) F(uint16_t, uw) F(int32_t, d) F(uint64_t, uq) F(float, s)

#define LOOPS(T, n) \
	void axpy_##n(T *restrict a, const T *restrict b, T c, size_t k) { \
		for (size_t i = 0; i < k; i++) a[i] = a[i] * c + b[i]; } \
	void pick_##n(T *restrict a, const T *restrict b, const T *restrict c, size_t k) { \
		for (size_t i = 0; i < k; i++) if (b[i] > 3) a[i] = b[i] < c[i] ? c[i] - 7 : a[i] + b[i]; } \
	T sum_##n(const T *a, size_t k) { T s = 0; for (size_t i = 0; i < k; i++) s += a[i] * a[k - i]; return s; } \
	T most_##n(const T *a, size_t k) { T s = a[0]; for (size_t i = 0; i < k; i++) if (a[i] > s) s = a[i]; return s; } \
	void look_##n(T *restrict a, const T *restrict b, const int *restrict x, size_t k) { \
		for (size_t i = 0; i < k; i++) a[i] = b[x[i]]; } \
	void put_##n(T *restrict a, const T *restrict b, const int *restrict x, size_t k) { \
		for (size_t i = 0; i < k; i++) a[x[i]] = b[i]; } \
	void step_##n(T *restrict a, const T *restrict b, size_t k) { \
		for (size_t i = 0; i < k; i++) a[i] = b[3 * i] + b[3 * i + 1] - b[3 * i + 2]; } \
	void to_d_##n(double *restrict a, const T *restrict b, size_t k) { for (size_t i = 0; i < k; i++) a[i] = b[i]; } \
	void to_b_##n(int8_t *restrict a, const T *restrict b, size_t k) { for (size_t i = 0; i < k; i++) a[i] = b[i]; } \
	void to_q_##n(int64_t *restrict a, const T *restrict b, size_t k) { for (size_t i = 0; i < k; i++) a[i] = b[i]; }
EACH(LOOPS)

#define BITS(T, n) \
	void bits_##n(T *restrict a, const T *restrict b, const T *restrict c, size_t k) { \
		for (size_t i = 0; i < k; i++) a[i] = (a[i] & b[i]) | (~a[i] & c[i]) ^ (b[i] << 3 | b[i] >> (8 * sizeof(T) - 3)); } \
	void shift_##n(T *restrict a, const T *restrict b, size_t k) { for (size_t i = 0; i < k; i++) a[i] = a[i] >> b[i] << 1; } \
	void count_##n(T *restrict a, size_t k) { for (size_t i = 0; i < k; i++) a[i] = __builtin_popcountll(a[i]) + __builtin_clzll(a[i]); }
BITS(uint16_t, uw) BITS(uint32_t, ud) BITS(uint64_t, uq)

#ifdef __AVX512F__
void masks(double *p, const float *q, __mmask8 m, __mmask16 n, int *o) {
	for (int i = 0; i < 4; i++) {
		__m512d a = _mm512_maskz_loadu_pd(m, p + 9 * i), b = _mm512_set1_pd(q[i]);
		a = _mm512_mask_fmadd_round_pd(a, m, b, _mm512_set1_pd(p[33]), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
		a = _mm512_mask_permutexvar_pd(a, m, _mm512_loadu_si512(o + 7), _mm512_sqrt_pd(a));
		_mm512_mask_compressstoreu_pd(p + 1, m, a);
		_mm512_mask_storeu_pd(p + 64, _mm512_cmp_pd_mask(a, b, _CMP_NGE_UQ) & m, _mm512_getexp_pd(a));
		__m512 s = _mm512_mask_rcp14_ps(_mm512_loadu_ps(q + 16), n, _mm512_loadu_ps(q + 5));
		s = _mm512_mask_i32gather_ps(s, n, _mm512_loadu_si512(o), q, 4);
		_mm512_mask_i32scatter_ps(p, n, _mm512_loadu_si512(o + 16), s, 8);
		_mm512_storeu_ps(p + 80, _mm512_fixupimm_ps(s, s, _mm512_loadu_si512(o + 32), 5));
		__m512i v = _mm512_ternarylogic_epi32(_mm512_loadu_si512(o + 48), _mm512_set1_epi32(o[3]), _mm512_loadu_si512(o), 0x96);
		v = _mm512_mask_expandloadu_epi32(v, n, o + 3);
		v = _mm512_alignr_epi32(v, _mm512_loadu_si512(o + 80), 3);
		v = _mm512_mask_cvtps_epi32(v, n, s);
		v = _mm512_inserti32x4(v, _mm_loadu_si128((void *)(o + 12)), 2);
		_mm512_mask_cvtepi32_storeu_epi8(o + 100, n, v);
		_mm512_mask_cvtusepi32_storeu_epi16(o + 104, n, _mm512_conflict_epi32(v));
		_mm256_storeu_si256((void *)(o + 120), _mm512_extracti64x4_epi64(v, 1));
		o[200] += _mm512_mask2int(n) + _mm512_reduce_add_epi32(v);
	}
}
#endif

#ifdef __AVX512FP16__
void halves(_Float16 *restrict a, const _Float16 *restrict b, float *restrict c, size_t k) {
	for (size_t i = 0; i < k; i++) { a[i] = a[i] * b[i] + (_Float16)c[i]; c[i] = b[i] / a[i]; }
}
void complexes(__m512h *a, __mmask16 m) {
	a[3] = _mm512_mask_fcmadd_pch(a[0], m, a[1], a[2]);
	a[9] = _mm512_mask_fmul_pch(a[4], m, a[5], a[6]);
	a[12] = _mm512_reduce_ph(_mm512_sqrt_ph(a[7]), 3);
}
#endif
