# syntax=docker/dockerfile:1
# The worker (about 7 GB, most of it torch and CUDA). Build in the project's folder:
#   docker build -f deploy/worker.Dockerfile -t darkroom-worker .
# The machine needs NVIDIA's driver and container toolkit; torch brings CUDA's libraries with it, so no CUDA base
# image is needed. It has no compiler, no torchao and no gguf: docs/deploy.md says what needs them, and how to add them.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /opt/darkroom/app
RUN python -m venv /opt/darkroom/venv
ENV PATH=/opt/darkroom/venv/bin:$PATH
# The dependencies first: this layer, which is nearly all of the image, is built again only when they change.
COPY pyproject.toml constraints.txt deploy/requirements.py ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python requirements.py worker otel < pyproject.toml > requirements.txt \
    && python -m pip install --disable-pip-version-check -c constraints.txt -r requirements.txt setuptools
COPY README.md models.toml ./
COPY models/pocket models/pocket
COPY models/pocket_loras models/pocket_loras
COPY api api
COPY cli cli
COPY courier courier
COPY migrations migrations
COPY storage storage
COPY worker worker
# Importing diffusers takes 6 s with compiled bytecode and 26 s without; nothing can write there later.
RUN python -m pip install --disable-pip-version-check --no-cache-dir --no-build-isolation --no-deps -e . \
    && python -m compileall -q api cli courier migrations storage worker

FROM python:${PYTHON}
# tini is process 1: the kernel drops signals that process 1 has no handler for, such as a SIGTERM while Python
# still imports. It passes SIGTERM on to darkroom itself; no shell stands between.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin darkroom \
    && install -d -o darkroom -g darkroom /models
COPY --from=build /opt/darkroom /opt/darkroom
# /models is a volume: the weights that the hub gave, and what torch compiled, outlive the container there.
ENV PATH=/opt/darkroom/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LOG_FORMAT=json \
    MODELS=/opt/darkroom/app/models.toml \
    HF_HOME=/models/hub \
    HF_HUB_DISABLE_TELEMETRY=1 \
    TORCHINDUCTOR_CACHE_DIR=/models/compiled/inductor \
    TRITON_CACHE_DIR=/models/compiled/triton \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /opt/darkroom/app
USER 10001:10001
VOLUME /models
# Healthy once the model is loaded and the bucket can be written, as long as the worker signs in to Postgres. It only
# shows: a worker that hangs exits by itself. The first start may download some 20 GB.
HEALTHCHECK --interval=30s --timeout=10s --start-period=20m \
    CMD ["darkroom", "workers", "--check"]
ENTRYPOINT ["tini", "--", "darkroom"]
CMD ["worker"]
