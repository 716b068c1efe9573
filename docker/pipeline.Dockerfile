# A Beam worker that holds corpusmill, for runners that start containers (Dataflow, Flink, Spark). No torch.
#
#   docker build -f docker/pipeline.Dockerfile -t corpusmill-pipeline .
#
# The submitting side needs the same Python minor version, Beam and corpusmill; pass the image to the run as
# `-- --sdk_container_image=REGISTRY/corpusmill-pipeline --sdk_location=container`.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PATH=/opt/corpusmill/bin:$PATH PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY docker/constraints.txt ./
RUN python -m venv /opt/corpusmill && pip install --no-compile --constraint constraints.txt setuptools
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY cli cli
COPY pipeline pipeline
COPY schemas schemas
COPY train train
RUN pip wheel --no-build-isolation --no-deps --wheel-dir /wheel .
RUN pip install --no-compile --constraint constraints.txt "$(echo /wheel/corpusmill-*.whl)[pipeline,gcp,s3]"

FROM ${PYTHON_IMAGE}
# The program that starts Python workers, as Beam documents for images of one's own; of the Beam in constraints.txt.
COPY --from=apache/beam_python3.11_sdk:2.77.0 /opt/apache/beam /opt/apache/beam
COPY --from=build /opt/corpusmill /opt/corpusmill
# The worker runs in this environment, not in a fresh one that the entry point would make from the image's Python.
ENV PATH=/opt/corpusmill/bin:$PATH RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
# Checks what was installed, and compiles what a worker imports; the rest of Google's clients would be 200 MB more.
RUN pip check && python -c "import apache_beam.runners.worker.sdk_worker_main, corpusmill.pipeline.work" \
    && ! python -c "import torch" 2> /dev/null
# A small run leaves the machine code of numba's kernels beside them. It is for any x86-64 processor with AVX2 (2015 and
# later), since code for the one that happens to build the image would be compiled anew on others; for AVX-512 it would be
# no faster. On ARM: --build-arg NUMBA_CPU=generic.
ARG NUMBA_CPU=x86-64-v3
ENV NUMBA_CPU_NAME=${NUMBA_CPU} NUMBA_CPU_FEATURES=""
RUN cd "$(mktemp -d)" && python -c "import this" > a.txt && echo "And more." | cat a.txt - > b.txt \
    && echo "{name: small, sources: [{kind: text, name: zen, paths: ['*.txt']}], quality: {preset: none}}" > small.yaml \
    && corpusmill run small.yaml --out run && rm -r "$PWD"
ENTRYPOINT ["/opt/apache/beam/boot"]
