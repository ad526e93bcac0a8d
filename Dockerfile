# A worker of Prefect's pool "mipp", which runs the deployments of prefect.yaml.
#
#   docker build -t mipp-worker .                                     # torch with CUDA
#   docker build -t mipp-worker --build-arg TORCH_INDEX=URL .         # URL: PyTorch's index for CPUs
#   docker run -e PREFECT_API_URL=http://SERVER:4200/api mipp-worker  # --gpus all, --shm-size 2g
#
# Deployments run in the folder that they were made in, here /app, so make them in a container, too:
#   docker run -e PREFECT_API_URL=http://SERVER:4200/api mipp-worker sh -c 'prefect deploy --all'
ARG BASE=python:3.12-slim
FROM ${BASE}

ARG TORCH_INDEX=""
ARG EXTRAS=flows,onnx,timm
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY mipp mipp
COPY tasks tasks
COPY flows flows
# An extra index: of 2.13.0 and 2.13.0+cpu pip takes the latter, and what torch needs is on PyPI.
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints.txt \
      ".[${EXTRAS}]" \
    && useradd --create-home worker && chown worker /app
COPY params.yaml prefect.yaml prefect.toml ./
COPY experiments experiments

USER worker
ENV DO_NOT_TRACK=1 MLFLOW_DISABLE_TELEMETRY=true
CMD ["prefect", "worker", "start", "--pool", "mipp", "--type", "process"]
