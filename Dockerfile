# The image that organizers run: docker build -t brats-opt . && docker run --gpus all -v in:/input -v out:/output brats-opt
# VARIANT=cpu takes torch without CUDA, from wherever pip is told to find that build (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL).
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG VARIANT=cuda
ARG PIP_FIND_LINKS
ARG PIP_EXTRA_INDEX_URL
RUN python3 -m venv /opt/venv
WORKDIR /build
# What the project needs, before the project itself: a change of code or weights does not install torch again.
COPY pyproject.toml ./
RUN python3 -c "import tomllib; print('\n'.join(tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']))" > needs.txt \
    && if [ "${VARIANT}" = cpu ]; then sed -i 's/^\(torch==[0-9.]*\)$/\1+cpu/' needs.txt; fi \
    && /opt/venv/bin/pip install --no-cache-dir -r needs.txt \
    && /opt/venv/bin/pip uninstall --yes pip

FROM ${BASE_IMAGE}
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY model model
COPY brats_infer brats_infer
COPY weights weights
COPY mlcube mlcube
COPY entrypoint.py LICENSE README.md ./
RUN /opt/venv/bin/python -m compileall -q brats_infer model
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    BRATS_OPT_ON_ERROR=blank
ENTRYPOINT ["python", "/app/entrypoint.py"]
