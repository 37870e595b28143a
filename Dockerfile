# syntax=docker/dockerfile:1
# Runs unchanged as a Hugging Face Docker Space: port 7860, user 1000, nothing written outside /app.
# Pinned by digest, so that every build has the same bytes. Dependabot and `docker buildx imagetools inspect python:3.11-slim` find newer ones.
FROM python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7

RUN useradd --create-home --uid 1000 app
WORKDIR /app
COPY locks/run.txt locks/speed.txt locks/
RUN pip install --no-cache-dir --require-hashes -r locks/run.txt \
    && (pip install --no-cache-dir --require-hashes -r locks/speed.txt || echo "uvloop does not install: plain asyncio")
COPY pyproject.toml README.md ./
COPY orchestrator orchestrator
COPY feeds feeds
COPY stream_server stream_server
COPY static static
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && mkdir -p .state logs && chown app:app .state logs

USER app
ENV PYTHONUNBUFFERED=1 PORT=7860
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(f'http://localhost:{os.environ[\"PORT\"]}/health/live', timeout=4)"]
CMD ["stream-server"]
