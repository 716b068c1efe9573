# Training from a dataset folder. No Beam.
#
#   docker build -f docker/train.Dockerfile -t corpusmill-train .
#
# For GPUs give the index of the wheels for their CUDA:
#   --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PATH=/opt/corpusmill/bin:$PATH PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY docker/constraints.txt ./
RUN python -m venv /opt/corpusmill && pip install --no-compile --constraint constraints.txt setuptools
# A local version such as 2.13.0+cpu counts as newer than 2.13.0, so the extra index wins over PyPI's CUDA build.
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-compile --constraint constraints.txt --extra-index-url "${TORCH_INDEX}" "${TORCH}"
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY cli cli
COPY pipeline pipeline
COPY schemas schemas
COPY train train
RUN pip wheel --no-build-isolation --no-deps --wheel-dir /wheel .
RUN pip install --no-compile --constraint constraints.txt "$(echo /wheel/corpusmill-*.whl)[train]"

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/corpusmill /opt/corpusmill
ENV PATH=/opt/corpusmill/bin:$PATH
# Checks what was installed, and compiles what training imports.
RUN pip check && python -c "import torch, corpusmill.train" && ! python -c "import apache_beam" 2> /dev/null
ENTRYPOINT ["corpusmill"]
CMD ["--help"]
