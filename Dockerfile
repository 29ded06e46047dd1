# The image that organizers run, see docs/container.md. `make image` builds it.
# VARIANT=cpu takes torch without CUDA, from where pip is told to find that build (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL).
ARG BASE_IMAGE=python:3.11.14-slim-bookworm

# What the project needs, locked and hashed: a change of code or weights does not install torch again.
FROM ${BASE_IMAGE} AS packages
ARG VARIANT=cuda
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
COPY requirements/${VARIANT}.txt requirements/sbom.txt /build/
RUN python3 -m venv /opt/venv && python3 -m venv /opt/sbom \
    && /opt/venv/bin/pip install --no-cache-dir --no-compile --require-hashes -r "/build/${VARIANT}.txt" \
    && /opt/sbom/bin/pip install --no-cache-dir --no-compile --require-hashes -r /build/sbom.txt \
    && /opt/venv/bin/pip uninstall --yes openvino-telemetry pip
# What a run never reads: tests, headers, tools of builds. Then bytecode, as no run may write its own.
WORKDIR /opt/venv/lib/python3.11/site-packages
RUN find . -depth -type d \( -name tests -o -name test \) -exec rm -r {} + \
    && find . \( -name 'test_*.py' -o -name conftest.py \) -delete \
    && rm -r torch/include torch/share \
    && rm -rf openvino/include openvino/cmake openvino/libs/cache.json openvino/libs/libopenvino_intel_[gn]pu_plugin.so \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && python3 -m compileall -q -j 0 -x py312 --invalidation-mode unchecked-hash .

FROM packages AS app
WORKDIR /app
COPY pyproject.toml README.md LICENSE entrypoint.py ./
COPY mlcube mlcube
COPY weights weights
COPY model model
COPY brats_infer brats_infer
# The version stands in pyproject.toml alone: its metadata say it to the program, and to the list of what is inside.
RUN /opt/venv/bin/python -c "from setuptools.build_meta import prepare_metadata_for_build_wheel as f; f('.')" \
    && python3 -m compileall -q --invalidation-mode unchecked-hash brats_infer model \
    && /opt/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --of JSON -o sbom.cdx.json /opt/venv/bin/python \
    && /opt/sbom/bin/pip-licenses --python /opt/venv/bin/python --with-system --with-urls --format=markdown --output-file licences.md \
    && rm -rf -- *.egg-info && chmod -R a+rX,go-w .

# Debian with Python and tini, without what only builds need; licences (copyright) stay.
FROM ${BASE_IMAGE} AS system
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends tini \
    && rm -rf /usr/share/python-wheels /usr/lib/python3*/ensurepip /usr/local/lib/python3*/ensurepip \
        /usr/local/lib/python3*/site-packages/* /usr/local/bin/pip* /usr/share/locale /usr/share/man /usr/share/info \
        /var/lib/apt/lists /var/cache/* /var/log/* \
    && find /usr/share/doc -type f ! -name copyright -delete \
    && find /usr/lib/python3* /usr/local/lib -depth -type d \( -name tests -o -name test \) -exec rm -r {} + \
    && python3 -c "import compileall, os; compileall.compile_dir(os.path.dirname(os.__file__), quiet=1)"

# One layer of what is left: in a layer above it, what was removed would still be in the image.
FROM scratch
# hadolint ignore=DL3067
COPY --from=system / /
COPY --from=packages /opt/venv /opt/venv
COPY --from=app /app /app
# HOME and caches: nothing is written but to the output folder and, where it can be, /tmp. OpenBLAS, of which nothing
# is asked, would start a thread for every core of the host. A runner's own variables do not choose among the cases.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OPENBLAS_NUM_THREADS=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    BRATS_OPT_SHARD=1/1 \
    BRATS_OPT_ON_ERROR=blank \
    BRATS_OPT_LINKS=inside \
    BRATS_OPT_MISSING=use \
    BRATS_OPT_BECOME_OWNER=1
WORKDIR /app
ENTRYPOINT ["tini", "-s", "--", "python", "/app/entrypoint.py"]
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="brats-opt" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
