# syntax=docker/dockerfile:1
# The API and the courier: one image without torch (about 300 MB). Build in the project's folder:
#   docker build -f deploy/api.Dockerfile -t darkroom-api .
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /opt/darkroom/app
RUN python -m venv /opt/darkroom/venv
ENV PATH=/opt/darkroom/venv/bin:$PATH
# The dependencies first: this layer is built again only when they change.
COPY pyproject.toml constraints.txt deploy/requirements.py ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python requirements.py otel < pyproject.toml > requirements.txt \
    && python -m pip install --disable-pip-version-check -c constraints.txt -r requirements.txt setuptools
COPY README.md models.toml ./
COPY api api
COPY cli cli
COPY courier courier
COPY migrations migrations
COPY storage storage
COPY worker worker
# Editable: the code stays one folder, with its migrations and its page beside it. Nothing can write there later,
# so the bytecode is compiled now.
RUN python -m pip install --disable-pip-version-check --no-cache-dir --no-build-isolation --no-deps -e . \
    && python -m compileall -q api cli courier migrations storage worker

FROM python:${PYTHON}
# tini is process 1: the kernel drops signals that process 1 has no handler for, such as a SIGTERM while Python
# still imports. It passes SIGTERM on to darkroom itself; no shell stands between.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin darkroom
COPY --from=build /opt/darkroom /opt/darkroom
ENV PATH=/opt/darkroom/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    AUTH=tokens \
    LOG_FORMAT=json \
    MODELS=/opt/darkroom/app/models.toml
WORKDIR /opt/darkroom/app
USER 10001:10001
EXPOSE 8000
# For the API; whoever runs the courier turns it off, as compose.yaml does. urllib would ask through HTTP_PROXY.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1:8000', timeout=4); \
c.request('GET', '/healthz'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["tini", "--", "darkroom"]
CMD ["api", "--host", "0.0.0.0"]
