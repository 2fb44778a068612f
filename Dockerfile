# The service. `docker build .` for a CPU; `--build-arg DEVICE=cuda` for a GPU. It needs no file system to write to but
# /tmp: `docker run --read-only --tmpfs /tmp …` (docs/serve.md). tests/test_dockerfile.py runs the steps it can.
FROM python:3.11-slim
ARG DEVICE=cpu
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/matplotlib HF_HUB_OFFLINE=1
# GDAL wants expat, which the slim image lacks.
RUN apt-get update && apt-get install --yes --no-install-recommends libexpat1 && rm -rf /var/lib/apt/lists/*
# The usual build of torch brings CUDA along.
RUN if [ "$DEVICE" = cpu ]; then pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu; fi
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY tiles tiles
COPY zoomloc zoomloc
COPY generation generation
COPY data_prep data_prep
COPY app app
RUN pip install --no-cache-dir .
RUN useradd --uid 10001 --no-create-home zoomloc
USER 10001
WORKDIR /
EXPOSE 8080
HEALTHCHECK CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/healthz', timeout=5)"]
ENTRYPOINT ["zoomloc", "serve", "--host", "0.0.0.0"]
