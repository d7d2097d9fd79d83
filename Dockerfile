# The controller as a sidecar. Any image with Python 3.11 or newer and pip can be the base.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/agentd && /opt/agentd/bin/pip install -q -c constraints.txt hatchling
COPY pyproject.toml README.md LICENSE ./
COPY controller ./controller
# A wheel, so that the final image holds no sources, no build tools and no pip.
RUN /opt/agentd/bin/pip wheel -q --no-deps --no-build-isolation -w /wheels . \
    && python -m venv --clear /opt/agentd \
    && /opt/agentd/bin/pip install -q -c constraints.txt /wheels/*.whl \
    && /opt/agentd/bin/pip uninstall -q -y pip

FROM ${BASE}
LABEL agentd.role=controller \
      org.opencontainers.image.title=agentd-controller \
      org.opencontainers.image.licenses=Apache-2.0
ENV PATH=/opt/agentd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    AGENTD_DB=/data/controller.db \
    AGENTD_BIND=0.0.0.0 \
    AGENTD_AGENT_URL=ws://controller:7006 \
    AGENTD_EXIT_WHEN_ENGINE_LOST_S=120
COPY --from=build /opt/agentd /opt/agentd
# Open to any user: a new volume takes this mode over; the files in it are private to whoever runs the controller.
RUN mkdir -m 1777 /data
VOLUME /data
EXPOSE 7006
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["agentdctl", "healthcheck"]
ENTRYPOINT ["agentdctl"]
CMD ["run"]
