# The service as a container: docker build -t token-billing . && docker run -p 8000:8000 -v billing:/data
# -e BILLING_AUTH=jwt -e BILLING_JWT_SECRET=… -e BILLING_RECEIPTS=off token-billing

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY migrations migrations
COPY benches benches
COPY src src
COPY templates templates
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/token-billing /token-billing

FROM debian:bookworm-slim
# The authorities' certificates are for what the service itself asks over https (BILLING_JWKS_URL, the app stores):
# the newest there are.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --system --gid 10001 billing \
    && useradd --system --uid 10001 --gid billing --home-dir /data --shell /usr/sbin/nologin billing \
    && install -d -o billing -g billing -m 0700 /data
COPY --from=build /token-billing /usr/local/bin/token-billing
USER 10001:10001
WORKDIR /data
VOLUME /data
# Others can connect, so BILLING_AUTH and BILLING_RECEIPTS must be chosen, or the start stops with a line that says
# so.
ENV BILLING_LISTEN=0.0.0.0:8000 DATABASE_URL=sqlite:///data/billing.db
EXPOSE 8000
# A stop takes at most 10 s, as long as Docker waits.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8000 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["token-billing"]
