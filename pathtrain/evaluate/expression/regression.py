"""From features to genes: the two protocols of HEST-Benchmark.

    pca     StandardScaler -> PCA(256, random_state 1) -> ridge; its README's table: "ridge
    regression
            unfairly penalises models with larger embedding dimensions"
    plain   ridge on the features as they are, not scaled: its code with ``dimreduce`` None

Ridge: solver lsqr, no intercept, at most 1,000 iterations, alpha = 100 / (columns x genes), where columns are
those that the ridge sees: 256 after PCA, all otherwise. Fewer spots or numbers than 256 give as many factors.
"""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from pathtrain.evaluate.statistics import Doubles, Floats

FACTORS, PCA_SEED = 256, 1
STRENGTH, ITERATIONS = 100, 1000


def predict(train: Floats, values: Doubles, test: Floats, protocol: str) -> tuple[Doubles, int]:
    """Expression of the tested spots.

    Args:
        train: (N, D) features. values: (N, G) of their spots. test: (M, D).
        protocol: ``pca`` or ``plain``.

    Returns:
        (M, G) float64, and the columns that the ridge saw.
    """
    if protocol == "pca":
        factors = min(FACTORS, *train.shape)
        pipe = Pipeline([("scaler", StandardScaler()), ("PCA", PCA(factors, random_state=PCA_SEED))])
        sides = pipe.fit_transform(train), pipe.transform(test)
        # HEST makes torch tensors of them, float32, which scikit-learn does not know: it goes on in float64
        given = [side.astype(np.float32).astype(np.float64) for side in sides]
    else:
        given = [train, test]  # in their own float32
    columns = given[0].shape[1]
    alpha = STRENGTH / (columns * values.shape[1])
    ridge = Ridge(solver="lsqr", alpha=alpha, random_state=PCA_SEED, fit_intercept=False, max_iter=ITERATIONS)
    found = ridge.fit(given[0], values).predict(given[1])
    return np.asarray(found, dtype=np.float64).reshape(len(test), values.shape[1]), columns
