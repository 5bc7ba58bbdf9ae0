#!/bin/sh
# Makes the certificates of the TLS tests anew, valid for a hundred years (one of them expired in 2020).
set -eu
cd "$(dirname "$0")"
key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl req -x509 $key -days 36500 -keyout "$work/authority.key" -out authority.pem -subj "/CN=Tidewater test authority"
openssl req -x509 $key -days 36500 -keyout "$work/stranger.key" -out stranger.pem -subj "/CN=Tidewater strange authority"
touch "$work/index.txt"
echo 01 > "$work/serial"
cat > "$work/ca.cnf" <<END
[ca]
default_ca = authority
[authority]
database = $work/index.txt
serial = $work/serial
new_certs_dir = $work
default_md = sha256
policy = policy
[policy]
commonName = supplied
END
# name, subject alternative names, not before, not after
certificate() {
    openssl req $key -keyout "$1.key" -out "$work/$1.csr" -subj "/CN=$1"
    printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\n' "$2" > "$work/$1.ext"
    openssl ca -batch -notext -config "$work/ca.cnf" -cert authority.pem -keyfile "$work/authority.key" \
        -in "$work/$1.csr" -extfile "$work/$1.ext" -startdate "$3" -enddate "$4" -out "$1.pem"
}
certificate good "DNS:localhost,IP:127.0.0.1" 20200101000000Z 21200101000000Z
certificate elsewhere "DNS:kafka.example.com" 20200101000000Z 21200101000000Z
certificate expired "DNS:localhost,IP:127.0.0.1" 20200101000000Z 20200201000000Z
certificate future "DNS:localhost,IP:127.0.0.1" 21100101000000Z 21200101000000Z
certificate client "DNS:client" 20200101000000Z 21200101000000Z
openssl pkcs8 -topk8 -in client.key -passout pass:canary -out client-encrypted.key
openssl pkcs12 -export -in client.pem -inkey client.key -passout pass:canary -out client.p12
openssl pkcs12 -export -nokeys -in authority.pem -passout pass:canary -out authority.p12
# A client that a stranger has signed.
openssl req $key -keyout intruder.key -out "$work/intruder.csr" -subj "/CN=intruder"
printf 'basicConstraints=CA:FALSE\n' > "$work/intruder.ext"
openssl x509 -req -extfile "$work/intruder.ext" -in "$work/intruder.csr" -CA stranger.pem -CAkey "$work/stranger.key" -days 36500 -out intruder.pem
