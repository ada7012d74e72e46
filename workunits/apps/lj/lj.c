// Lj looks for the global minimum of a Lennard-Jones cluster by basin hopping
// from one random start. Reduced units: epsilon = sigma = 1.
//
//   lj --atoms N --seed S [--steps M] [--out DIR]
//
// It writes the lowest cluster that it met to DIR/best.xyz (DIR is /out unless
// told) and prints one line, "energy E". The result depends on the arguments
// alone: the only operations on numbers are + - * / and sqrt, which IEEE 754
// defines to the bit, so every machine finds the same digits.
//
// A step shakes the cluster, quenches it (L-BFGS), then moves its most weakly
// bound atom to the best free site of the surface for as long as that lowers
// the energy. Basin hopping: Wales and Doye, J. Phys. Chem. A 101, 5111 (1997);
// surface sites after Shao, Cheng and Cai, J. Comput. Chem. 25, 1693 (2004).
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_ATOMS = 250,
	DIM = 3 * MAX_ATOMS,
	MEMORY = 6,             // corrections that L-BFGS remembers
	MAX_EVALUATIONS = 2000, // of one quench
	DEFAULT_STEPS = 2500,
};

static const double PAIR = 1.122462048309373;   // 2^(1/6): the distance of two atoms at rest
static const double SHAKE = 0.55;               // longest displacement of an atom
static const double TEMPERATURE = 0.8;          // of the walk between minima
static const double LOOSE = 1e-2, TIGHT = 1e-9; // RMS gradients at which a quench ends

typedef struct {
	int n; // atoms
	double e;
	double x[DIM]; // x, y, z of each atom
} Cluster;

// Random numbers: xoshiro256++, seeded by splitmix64 (Blackman and Vigna).

static uint64_t rng[4];

static void rng_seed(uint64_t seed) {
	for (int i = 0; i < 4; i++) {
		uint64_t z = seed += 0x9e3779b97f4a7c15;
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
		z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
		rng[i] = z ^ (z >> 31);
	}
}

static uint64_t rotl(uint64_t v, int k) { return (v << k) | (v >> (64 - k)); }

static uint64_t rng_next(void) {
	uint64_t r = rotl(rng[0] + rng[3], 23) + rng[0], t = rng[1] << 17;
	rng[2] ^= rng[0];
	rng[3] ^= rng[1];
	rng[1] ^= rng[2];
	rng[0] ^= rng[3];
	rng[2] ^= t;
	rng[3] = rotl(rng[3], 45);
	return r;
}

// uniform draws from [0, 1).
static double uniform(void) { return (double)(rng_next() >> 11) * 0x1p-53; }

// in_ball draws a point of the unit ball.
static void in_ball(double p[3]) {
	do {
		for (int k = 0; k < 3; k++)
			p[k] = 2 * uniform() - 1;
	} while (p[0] * p[0] + p[1] * p[1] + p[2] * p[2] > 1);
}

// metropolis says whether to accept a rise of the energy, with probability
// exp(-rise/T). It needs no exp: a unit exponential is drawn by von Neumann's
// comparison of uniforms, which uses no arithmetic that could differ.
static int metropolis(double rise) {
	if (rise <= 0)
		return 1;
	for (double whole = 0;; whole += 1) {
		double first = uniform(), last = first;
		int run = 1;
		for (double u = uniform(); u < last; u = uniform()) {
			last = u;
			run++;
		}
		if (run % 2)
			return (whole + first) * TEMPERATURE > rise;
	}
}

// The potential.

static double wall; // squared radius of the sphere that keeps atoms from leaving

static double dist2(const double *a, const double *b) {
	double x = a[0] - b[0], y = a[1] - b[1], z = a[2] - b[2];
	return x * x + y * y + z * z;
}

static double pair_energy(double r2) {
	double i2 = 1 / r2, i6 = i2 * i2 * i2;
	return 4 * i6 * (i6 - 1);
}

// potential returns the energy at x and writes its gradient to g. Beyond the
// wall an atom pays for the excess; no cluster of interest reaches it. Distances
// are held above 0.1, so that no overlap is infinite.
static double potential(int n, const double *x, double *g) {
	double e = 0;
	memset(g, 0, 3 * n * sizeof *g);
	for (int i = 0; i < n; i++) {
		double xi = x[3 * i], yi = x[3 * i + 1], zi = x[3 * i + 2], gx = 0, gy = 0, gz = 0;
		for (int j = i + 1; j < n; j++) {
			double dx = xi - x[3 * j], dy = yi - x[3 * j + 1], dz = zi - x[3 * j + 2];
			double r2 = dx * dx + dy * dy + dz * dz;
			double i2 = 1 / (r2 > 0.01 ? r2 : 0.01), i6 = i2 * i2 * i2;
			double f = i6 * (1 - 2 * i6) * i2;
			e += i6 * (i6 - 1);
			gx += f * dx, gy += f * dy, gz += f * dz;
			g[3 * j] -= f * dx, g[3 * j + 1] -= f * dy, g[3 * j + 2] -= f * dz;
		}
		g[3 * i] += gx, g[3 * i + 1] += gy, g[3 * i + 2] += gz;
	}
	e *= 4;
	for (int i = 0; i < n; i++) {
		double *gi = g + 3 * i;
		const double *xi = x + 3 * i;
		double over = xi[0] * xi[0] + xi[1] * xi[1] + xi[2] * xi[2] - wall;
		double pull = over > 0 ? 20 * over : 0;
		e += over > 0 ? 5 * over * over : 0;
		for (int k = 0; k < 3; k++)
			gi[k] = 24 * gi[k] + pull * xi[k];
	}
	return e;
}

// Local minimisation.

static double dot(int n, const double *a, const double *b) {
	double s = 0;
	for (int i = 0; i < n; i++)
		s += a[i] * b[i];
	return s;
}

// History holds the corrections of L-BFGS: steps s and changes y of the gradient.
static struct {
	int len, next;
	double s[MEMORY][DIM], y[MEMORY][DIM], rho[MEMORY];
} history;

// direction writes the quasi-Newton step for gradient g to d (Nocedal and
// Wright, algorithm 7.4), no coordinate longer than 0.4.
static void direction(int n, const double *g, double *d) {
	double a[MEMORY], scale = 0.01, longest = 0;
	for (int i = 0; i < n; i++)
		d[i] = -g[i];
	for (int c = 1; c <= history.len; c++) {
		int h = (history.next - c + MEMORY) % MEMORY;
		a[h] = history.rho[h] * dot(n, history.s[h], d);
		for (int i = 0; i < n; i++)
			d[i] -= a[h] * history.y[h][i];
		if (c == 1)
			scale = 1 / (history.rho[h] * dot(n, history.y[h], history.y[h]));
	}
	for (int i = 0; i < n; i++)
		d[i] *= scale;
	for (int c = history.len; c >= 1; c--) {
		int h = (history.next - c + MEMORY) % MEMORY;
		double b = a[h] - history.rho[h] * dot(n, history.y[h], d);
		for (int i = 0; i < n; i++)
			d[i] += b * history.s[h][i];
	}
	for (int i = 0; i < n; i++)
		longest = fabs(d[i]) > longest ? fabs(d[i]) : longest;
	for (int i = 0; longest > 0.4 && i < n; i++)
		d[i] *= 0.4 / longest;
}

// remember adds the correction s, y unless the curvature along s is not positive.
static void remember(int n, const double *from, const double *to, const double *g0, const double *g1) {
	double *s = history.s[history.next], *y = history.y[history.next];
	for (int i = 0; i < n; i++) {
		s[i] = to[i] - from[i];
		y[i] = g1[i] - g0[i];
	}
	double sy = dot(n, s, y);
	if (!(sy > 1e-14))
		return;
	history.rho[history.next] = 1 / sy;
	history.next = (history.next + 1) % MEMORY;
	history.len += history.len < MEMORY;
}

// quench moves c to the minimum of its basin: until the RMS gradient is below
// limit, or nothing lowers the energy any more.
static void quench(Cluster *c, double limit) {
	static double g[DIM], d[DIM], x[DIM], gx[DIM];
	int n = 3 * c->n, evaluations = 1;
	c->e = potential(c->n, c->x, g);
	history.len = history.next = 0;
	while (evaluations < MAX_EVALUATIONS && dot(n, g, g) > limit * limit * n) {
		direction(n, g, d);
		if (dot(n, d, g) >= 0) {
			history.len = 0;
			direction(n, g, d);
		}
		double e, t = 1;
		for (;; t *= 0.25) {
			for (int i = 0; i < n; i++)
				x[i] = c->x[i] + t * d[i];
			e = potential(c->n, x, gx);
			evaluations++;
			if (e < c->e || t < 1e-4)
				break;
		}
		if (!(e < c->e)) {
			if (history.len == 0)
				return;
			history.len = 0;
			continue;
		}
		remember(n, c->x, x, g, gx);
		memcpy(c->x, x, n * sizeof *x);
		memcpy(g, gx, n * sizeof *g);
		c->e = e;
	}
}

// Moves.

static void centre(Cluster *c) {
	for (int k = 0; k < 3; k++) {
		double mean = 0;
		for (int i = 0; i < c->n; i++)
			mean += c->x[3 * i + k];
		mean /= c->n;
		for (int i = 0; i < c->n; i++)
			c->x[3 * i + k] -= mean;
	}
}

// site_energy is the energy of an atom at p beside all atoms but skip, or
// infinite where p is taken.
static double site_energy(const Cluster *c, int skip, const double *p) {
	double e = 0;
	for (int i = 0; i < c->n; i++) {
		if (i == skip)
			continue;
		double r2 = dist2(p, c->x + 3 * i);
		if (r2 < 0.64)
			return INFINITY;
		e += pair_energy(r2);
	}
	return e;
}

// weakest returns the atom with the highest energy.
static int weakest(const Cluster *c) {
	int worst = 0;
	double most = -INFINITY;
	for (int i = 0; i < c->n; i++) {
		double e = site_energy(c, i, c->x + 3 * i);
		if (e > most) {
			most = e;
			worst = i;
		}
	}
	return worst;
}

// cap writes the two points at distance PAIR from a, b and c, and returns 0
// where there are none.
static int cap(const double *a, const double *b, const double *c, double p[2][3]) {
	double u[3], v[3], w[3];
	for (int k = 0; k < 3; k++) {
		u[k] = b[k] - a[k];
		v[k] = c[k] - a[k];
	}
	w[0] = u[1] * v[2] - u[2] * v[1];
	w[1] = u[2] * v[0] - u[0] * v[2];
	w[2] = u[0] * v[1] - u[1] * v[0];
	double uu = dot(3, u, u), vv = dot(3, v, v), uv = dot(3, u, v), ww = dot(3, w, w);
	if (ww < 1e-6)
		return 0;
	// The circumcentre is a + s u + t v; the points stand above and below it.
	double s = vv * (uu - uv) / (2 * ww), t = uu * (vv - uv) / (2 * ww);
	double height2 = PAIR * PAIR - (s * s * uu + 2 * s * t * uv + t * t * vv);
	if (height2 < 0)
		return 0;
	double h = sqrt(height2 / ww);
	for (int k = 0; k < 3; k++) {
		double base = a[k] + s * u[k] + t * v[k];
		p[0][k] = base + h * w[k];
		p[1][k] = base - h * w[k];
	}
	return 1;
}

// best_site finds where an atom would be bound most strongly: above three atoms
// that touch, or above three corners of a square.
static double best_site(const Cluster *c, int skip, double best[3]) {
	const double touch = 1.4 * 1.4, corner = 1.75 * 1.75;
	double lowest = INFINITY, p[2][3];
	for (int i = 0; i < c->n; i++) {
		int near[MAX_ATOMS], m = 0;
		for (int j = 0; i != skip && j < c->n; j++)
			if (j != i && j != skip && dist2(c->x + 3 * i, c->x + 3 * j) < touch)
				near[m++] = j;
		for (int j = 0; j < m; j++)
			for (int k = j + 1; k < m; k++) {
				double r2 = dist2(c->x + 3 * near[j], c->x + 3 * near[k]);
				if (r2 > corner || (r2 < touch && near[j] < i) ||
				    !cap(c->x + 3 * i, c->x + 3 * near[j], c->x + 3 * near[k], p))
					continue;
				for (int side = 0; side < 2; side++) {
					double e = site_energy(c, skip, p[side]);
					if (e < lowest) {
						lowest = e;
						memcpy(best, p[side], sizeof p[side]);
					}
				}
			}
	}
	return lowest;
}

// tidy moves the weakest atom to the best site for as long as that pays.
static void tidy(Cluster *c) {
	static Cluster moved;
	for (;;) {
		int worst = weakest(c);
		double p[3];
		if (best_site(c, worst, p) > site_energy(c, worst, c->x + 3 * worst))
			return;
		moved = *c;
		memcpy(moved.x + 3 * worst, p, sizeof p);
		centre(&moved);
		quench(&moved, LOOSE);
		if (!(moved.e < c->e - 1e-3))
			return;
		*c = moved;
	}
}

// shake displaces every atom by up to SHAKE.
static void shake(Cluster *c) {
	for (int i = 0; i < c->n; i++) {
		double p[3];
		in_ball(p);
		for (int k = 0; k < 3; k++)
			c->x[3 * i + k] += SHAKE * p[k];
	}
	centre(c);
}

// hop walks steps minima from a random start and returns the lowest.
static Cluster hop(int n, long steps) {
	static Cluster at, trial, best;
	double radius = 0.5; // of n close-packed atoms: 3n / (4 pi sqrt 2) is 0.169 n
	while (radius * radius * radius < 0.169 * n * PAIR * PAIR * PAIR)
		radius += 1.0 / 64;
	radius += 0.5 * PAIR;
	wall = (radius + 1) * (radius + 1);
	at.n = n;
	for (int i = 0; i < n; i++) {
		in_ball(at.x + 3 * i);
		for (int k = 0; k < 3; k++)
			at.x[3 * i + k] *= radius;
	}
	quench(&at, LOOSE);
	tidy(&at);
	best = at;
	for (long s = 0; s < steps; s++) {
		trial = at;
		shake(&trial);
		quench(&trial, LOOSE);
		tidy(&trial);
		if (metropolis(trial.e - at.e))
			at = trial;
		if (at.e < best.e)
			best = at;
	}
	quench(&best, TIGHT);
	return best;
}

static int write_xyz(const char *dir, const Cluster *c, uint64_t seed) {
	char path[512];
	if (snprintf(path, sizeof path, "%s/best.xyz", dir) >= (int)sizeof path)
		return errno = ENAMETOOLONG, -1;
	FILE *f = fopen(path, "w");
	if (!f)
		return -1;
	fprintf(f, "%d\nenergy %.9f seed %llu\n", c->n, c->e, (unsigned long long)seed);
	for (int i = 0; i < c->n; i++)
		fprintf(f, "LJ %.9f %.9f %.9f\n", c->x[3 * i], c->x[3 * i + 1], c->x[3 * i + 2]);
	int failed = ferror(f);
	return fclose(f) || failed ? -1 : 0;
}

static int usage(const char *problem, const char *value) {
	fprintf(stderr, "lj: %s %s\nusage: lj --atoms N (2 to %d) --seed S [--steps M] [--out DIR]\n", problem, value, MAX_ATOMS);
	return 2;
}

// number reads a decimal number of low to high; it returns 0 if s is none.
static int number(const char *s, uint64_t low, uint64_t high, uint64_t *v) {
	char *end;
	errno = 0;
	*v = strtoull(s, &end, 10);
	return *s >= '0' && *s <= '9' && !*end && !errno && *v >= low && *v <= high;
}

int main(int argc, char **argv) {
	uint64_t atoms = 0, seed = 0, steps = DEFAULT_STEPS;
	int seeded = 0;
	const char *out = "/out";
	for (int i = 1; i < argc; i += 2) {
		const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
		int ok = 1;
		if (!strcmp(name, "--atoms"))
			ok = number(value, 2, MAX_ATOMS, &atoms);
		else if (!strcmp(name, "--seed"))
			ok = seeded = number(value, 0, UINT64_MAX, &seed);
		else if (!strcmp(name, "--steps"))
			ok = number(value, 0, 1000000000, &steps);
		else if (!strcmp(name, "--out"))
			ok = *(out = value) != 0;
		else
			return usage("unknown argument", name);
		if (!ok)
			return usage("bad value of", name);
	}
	if (!atoms)
		return usage("missing", "--atoms");
	if (!seeded)
		return usage("missing", "--seed");
	rng_seed(seed);
	Cluster best = hop((int)atoms, (long)steps);
	if (write_xyz(out, &best, seed)) {
		fprintf(stderr, "lj: cannot write %s/best.xyz: %s\n", out, strerror(errno));
		return 1;
	}
	printf("energy %.6f\n", best.e);
	return 0;
}
