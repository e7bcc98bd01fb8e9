# Both packages and all extras, for CUDA 13; without a GPU it works too.
#
#   docker build -t pathprep .
#   docker run --rm --gpus all --ipc host --user "$(id -u):$(id -g)" -v "$PWD:/work" pathprep pathprep shard slides
FROM nvidia/cuda:13.0.2-runtime-ubuntu24.04

# gcc and Python's headers are for recipes with `compile: true`
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

COPY pyproject.toml constraints.txt README.md LICENSE /source/
COPY kernels /source/kernels
COPY pathprep /source/pathprep
COPY pathtrain /source/pathtrain
RUN python3 -m venv /opt/pathprep \
    && /opt/pathprep/bin/pip install --no-cache-dir -c /source/constraints.txt '/source[all]' \
    && rm -rf /source/build

# What is compiled goes here. Any user may write, as nobody knows the one of --user yet
ENV PATH=/opt/pathprep/bin:$PATH \
    HOME=/home/pathprep \
    NUMBA_CACHE_DIR=/home/pathprep/numba \
    TORCHINDUCTOR_CACHE_DIR=/home/pathprep/inductor
RUN useradd --create-home --uid 10001 pathprep \
    && mkdir /work \
    && chmod 1777 /home/pathprep /work

USER 10001
WORKDIR /work
CMD ["pathprep", "--help"]
