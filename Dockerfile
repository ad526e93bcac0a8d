# A worker of Prefect's pool "mipp", which runs the deployments of prefect.yaml.
#
#   docker build -t mipp-worker .                                     # torch with CUDA
#   docker build -t mipp-worker --build-arg TORCH_INDEX=URL .         # URL: PyTorch's index for CPUs
#   docker run -e PREFECT_API_URL=http://SERVER:4200/api mipp-worker  # --gpus all, --shm-size 2g
ARG BASE=python:3.12-slim
FROM ${BASE}

ARG TORCH_INDEX=""
ARG EXTRAS=flows,onnx,timm
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY mipp mipp
COPY tasks tasks
COPY flows flows
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c constraints.txt \
      torch torchvision \
    && pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]" \
    && useradd --create-home worker && chown worker /app
COPY params.yaml prefect.yaml prefect.toml ./
COPY experiments experiments

USER worker
ENV DO_NOT_TRACK=1 MLFLOW_DISABLE_TELEMETRY=true
CMD ["prefect", "worker", "start", "--pool", "mipp", "--type", "process"]
