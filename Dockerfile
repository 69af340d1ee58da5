# docker build -t assay .
# docker build -t assay --build-arg EXTRAS=cuda --build-arg TORCH_INDEX= .     for docker run --gpus all
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" -v "$HOME/.cache/assay:/cache" assay run experiment=quickstart
FROM python:3.11-slim-bookworm AS build
COPY . /assay
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist /assay

FROM python:3.11-slim-bookworm
# What open3d loads.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libusb-1.0-0 libgl1 libegl1 libx11-6 libgomp1 \
 && rm -rf /var/lib/apt/lists/*
ARG EXTRAS=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt /
# torch comes first and alone: its CPU build lies in an index of its own, and any other package would pull the CUDA one.
RUN pip install --no-cache-dir --constraint constraints.txt torch ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}
RUN --mount=from=build,source=/dist,target=/dist \
    pip install --no-cache-dir --constraint constraints.txt "$(echo /dist/*.whl)[$EXTRAS]"
# Whoever runs it may be a user that this image does not know.
RUN mkdir --mode=777 /cache /work
ENV ASSAY_CACHE=/cache HOME=/cache
WORKDIR /work
ENTRYPOINT ["assay"]
CMD ["--help"]
