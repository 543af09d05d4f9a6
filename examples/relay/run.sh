#!/bin/sh
# Two moq-relays in a cluster, a server that publishes to them, and a camera, all on this machine, until Ctrl-C.
# Wants hone, hone-server, hone-sender and moq-relay 0.17.10 in PATH, and openssl. Everything it makes is in ./hone-relay.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p hone-relay
cd hone-relay

# One certificate for both relays; its hash is what the others pin.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 13 -subj /CN=relay \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem 2> openssl.log
hash=$(openssl x509 -in cert.pem -outform der | openssl dgst -sha256 -r | cut -d ' ' -f 1)

[ -f token.key ] || hone token key token.key
token() { hone token make --key token.key --for 24h "$@"; }
token --publish '*' --view '*' > relay.token
token --publish live --publish in --view in > server.token
token --publish in/cam > sender.token
token --view live/cam > viewer.token
cp "$here/relay-a.toml" relay-a.toml
sed -e "s/RELAY_TOKEN/$(cat relay.token)/" -e "s/CERTIFICATE_HASH/$hash/" "$here/relay-b.toml" > relay-b.toml

trap 'trap - INT TERM EXIT; kill $started 2> /dev/null; wait' INT TERM EXIT
started=
start() { "$@" & started="$started $!"; }
start hone token serve --key token.key --listen 127.0.0.1:4440
start moq-relay --log-level warn relay-a.toml
start moq-relay --log-level warn relay-b.toml
start hone-server --bind 127.0.0.1:4445 --dev-certificate --relay https://127.0.0.1:4443/live \
    --relay-from https://127.0.0.1:4443/in --relay-token @server.token --relay-pin "$hash"
start hone-sender --server https://127.0.0.1:4443/in --pin "$hash" --token @sender.token --name cam \
    --input test:960x540@25 --scale 2
echo "view at either relay, 4443 or 4444, with the token in hone-relay/viewer.token:"
echo "  hone-viewer --server https://127.0.0.1:4444/live --pin $hash --token @hone-relay/viewer.token --name cam"
wait
