// The work of one thread: steps 3, 5 and 7 on a handful of numbers, in float64.

#define ROTATIONS 36              // of Jacobi's method: twelve sweeps, where five or six suffice

enum Setting {  // of the array `settings`
    KEEP_ANY, LEVEL, ALPHA, PERCENTILE,
    TISSUE_SHARE, TISSUE_PIXELS, VARIANCE, VARIANCE_RATIO, MIN_ANGLE, MAX_ANGLE, COMPONENT, MAX_C
};

// Eigenvectors of the two largest eigenvalues of a symmetric matrix, by cyclic Jacobi; false if the second
// is too small (step 3). a: xx xy xz yy yz zz. A rotation's tangent is float32's: it leaves 1e-7 of an element, which
// the next sweep takes. Its cosine is refined to float64, so that rotations stay rotations.
__device__ __noinline__ bool plane(const double a[6], const double* settings, double axes[2][3]) {
    double m[3][3] = {{a[0], a[1], a[2]}, {a[1], a[3], a[4]}, {a[2], a[4], a[5]}};
    double v[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
    const double tiny = 1e-14 * (m[0][0] + m[1][1] + m[2][2]);
    for (int turn = 0; turn < ROTATIONS; turn++) {
        #pragma unroll
        for (int pair = 0; pair < 3; pair++) {  // unrolled, so that the indices are constants
            if (pair != turn % 3) continue;
            const int p = pair == 2 ? 1 : 0, q = pair == 0 ? 1 : 2;
            if (fabs(m[p][q]) <= tiny) continue;
            const float theta = __fdividef((float)(m[q][q] - m[p][p]), 2.0f * (float)m[p][q]);
            const float root = theta * theta + 1.0f;
            const float tangent = copysignf(1.0f, theta) * __fdividef(1.0f, fabsf(theta) + root * rsqrtf(root));
            const double t = tangent, square = t * t + 1.0, rough = rsqrtf((float)square);
            const double c = rough * (1.5 - 0.5 * square * rough * rough), s = t * c;
            #pragma unroll
            for (int k = 0; k < 3; k++) {
                double x = m[k][p], y = m[k][q];
                m[k][p] = c * x - s * y;
                m[k][q] = s * x + c * y;
            }
            #pragma unroll
            for (int k = 0; k < 3; k++) {
                double x = m[p][k], y = m[q][k];
                m[p][k] = c * x - s * y;
                m[q][k] = s * x + c * y;
                x = v[k][p];
                y = v[k][q];
                v[k][p] = c * x - s * y;
                v[k][q] = s * x + c * y;
            }
        }
        if (fabs(m[0][1]) <= tiny && fabs(m[0][2]) <= tiny && fabs(m[1][2]) <= tiny) break;
    }
    double values[3] = {m[0][0], m[1][1], m[2][2]};
    #pragma unroll
    for (int pass = 0; pass < 3; pass++) {  // descending, the vectors with them
        #pragma unroll
        for (int i = 0; i < 2; i++) {
            if (values[i] >= values[i + 1]) continue;
            double x = values[i];
            values[i] = values[i + 1];
            values[i + 1] = x;
            #pragma unroll
            for (int k = 0; k < 3; k++) {
                x = v[k][i];
                v[k][i] = v[k][i + 1];
                v[k][i + 1] = x;
            }
        }
    }
    #pragma unroll
    for (int k = 0; k < 3; k++) {
        axes[1][k] = v[k][0];
        axes[0][k] = v[k][1];
    }
    return values[1] >= fmax(settings[VARIANCE], settings[VARIANCE_RATIO] * values[0]);
}

// Steps 2 and 3 from the tissue's sums: count, three of optical density in steps, six of their products.
// axes: second and largest eigenvector. False if there is too little tissue, or no plane
__device__ __noinline__ bool plane_of(const long long sums[10], int pixels, const double* settings, double axes[2][3]) {
    const double count = (double)sums[0], step = 1.0 / SCALE;
    if (count < fmax(settings[TISSUE_PIXELS], settings[TISSUE_SHARE] * pixels) || count <= 1.0) return false;
    const double of_count = 1.0 / count, of_freedom = 1.0 / (count - 1.0);
    double mean[3], covariance[6];
    for (int i = 0; i < 3; i++) mean[i] = (double)sums[1 + i] * step * of_count;
    for (int i = 0, k = 0; i < 3; i++)
        for (int j = i; j < 3; j++, k++)
            covariance[k] = ((double)sums[4 + k] * (step * step) - count * mean[i] * mean[j]) * of_freedom;
    if (!plane(covariance, settings, axes)) return false;
    // the cut of the angle lies behind the data; the largest only mirrors it
    if (axes[0][0] * mean[0] + axes[0][1] * mean[1] + axes[0][2] * mean[2] < 0.0)
        for (int k = 0; k < 3; k++) axes[0][k] = -axes[0][k];
    return true;
}

// The angle in radians of a pseudo-angle
__device__ __forceinline__ float angle_of(float p) {
    float x = 1.0f - fabsf(p);
    return atan2f(fabsf(p) <= 1.0f ? p : copysignf(2.0f, p) - p, x);
}

// Step 5: stain vectors from the extreme pseudo-angles; unmixing: pinv(HE), times -1. Whether they are plausible
__device__ __noinline__ bool stain_vectors(const double axes[2][3], const unsigned found[2][2], const double* settings,
                                           float weight, double he[3][2], float unmixing[2][3]) {
    float extreme[2];
    for (int t = 0; t < 2; t++) {
        const float sign = t ? -1.0f : 1.0f;
        const float first = angle_of(sign * unordered(found[t][0])), next = angle_of(sign * unordered(found[t][1]));
        extreme[t] = first + weight * (next - first);
    }
    float apart = (extreme[1] - extreme[0]) * 57.29577951f;
    if (!(apart >= settings[MIN_ANGLE] && apart <= settings[MAX_ANGLE])) return false;
    double vectors[2][3], least = 1.0, across = 0.0;
    for (int t = 0; t < 2; t++) {
        float sine, cosine;
        sincosf(extreme[t], &sine, &cosine);
        for (int k = 0; k < 3; k++) {
            vectors[t][k] = axes[0][k] * cosine + axes[1][k] * sine;
            least = fmin(least, vectors[t][k]);
        }
    }
    if (least < settings[COMPONENT]) return false;
    int h = vectors[0][0] > vectors[1][0] ? 0 : 1;
    double scale[2];  // float32 angles leave the length off one by 1e-7: a step of the square root's series suffices
    for (int t = 0; t < 2; t++) {
        double square = 0.0;
        for (int k = 0; k < 3; k++) square += vectors[t][k] * vectors[t][k];
        scale[t] = 1.5 - 0.5 * square;
    }
    for (int k = 0; k < 3; k++) {
        he[k][0] = vectors[h][k] * scale[h];
        he[k][1] = vectors[1 - h][k] * scale[1 - h];
        across += he[k][0] * he[k][1];
    }
    const double gain = 1.0 / (1.0 - across * across);
    for (int k = 0; k < 3; k++) {  // times -1: upper tails are lower ones
        unmixing[0][k] = (float)((across * he[k][1] - he[k][0]) * gain);
        unmixing[1][k] = (float)((across * he[k][0] - he[k][1]) * gain);
    }
    return true;
}

// Step 6: an upper tail's percentile from the keys of the lower tail of minus the concentration
__device__ __forceinline__ double percentile(const unsigned found[2], double weight) {
    const double first = unordered(found[0]), next = unordered(found[1]);
    return -(first + weight * (next - first));
}

// Steps 6 and 7 as one matrix, row-major, from optical density to binary logarithms; target: HE (3, 2), then maxC
__device__ __noinline__ void matrix_to(const double* target, const double he[3][2], const double max_c[2],
                                       float matrix[9]) {
    const double across = he[0][0] * he[0][1] + he[1][0] * he[1][1] + he[2][0] * he[2][1];
    const double gain = -1.4426950408889634 / (1.0 - across * across);
    const double gains[2] = {gain * target[6] / max_c[0], gain * target[7] / max_c[1]};
    for (int j = 0; j < 3; j++) {
        double h = (he[j][0] - across * he[j][1]) * gains[0];
        double e = (he[j][1] - across * he[j][0]) * gains[1];
        for (int k = 0; k < 3; k++) matrix[3 * k + j] = (float)(target[2 * k] * h + target[2 * k + 1] * e);
    }
}
