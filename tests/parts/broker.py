"""A real Apache Kafka broker in KRaft mode: PLAINTEXT and SASL_SSL listeners, its jars through Maven, its certificate made here."""

from __future__ import annotations

import base64
import datetime as dt
import fcntl
import ipaddress
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

VERSION = "4.3.1"
REPOSITORY = Path(__file__).resolve().parents[2]
NULL = b"(null)"  # as a console producer is told of it
USERNAME, PASSWORD = "driftline", "secret-of-the-test"
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>driftline</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{version}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
log.dirs={folder}/log
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.retention.ms=-1
"""


class UnavailableError(Exception):
    """The part cannot be had here; the message says why."""


def jars() -> Path:
    """The folder with the broker's jars, fetched once (54 MB) into `.cache/` of the repository or DRIFTLINE_CACHE."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise UnavailableError(f"no `{program}` on the PATH (Debian: openjdk-17-jre-headless, maven)")
    home = Path(os.environ.get("DRIFTLINE_CACHE") or REPOSITORY / ".cache") / f"kafka-{VERSION}"
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / ".complete").exists():
            pom = home / "pom.xml"
            pom.write_text(_POM.format(version=VERSION))
            words = [
                "mvn",
                "-q",
                "-B",
                "dependency:copy-dependencies",
                f"-DoutputDirectory={home}",
                "-DincludeScope=runtime",
            ]
            done = subprocess.run(words, cwd=home, capture_output=True, text=True, timeout=600)
            if done.returncode:
                raise UnavailableError(
                    "Maven could not fetch the broker: " + (done.stdout.strip().splitlines() or ["no output"])[0]
                )
            (home / ".complete").touch()
    return home


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Broker:
    """One node. `kill` and `start` again keep its log; `close` ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._jars = folder, jars()
        plain, secure, controller = free_port(), free_port(), free_port()
        self.address, self.secure_address = f"127.0.0.1:{plain}", f"127.0.0.1:{secure}"
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = make_certificates(folder)
        self._properties = folder / "server.properties"
        self._properties.write_text(
            _PROPERTIES.format(
                plain=plain, secure=secure, controller=controller, folder=folder, user=USERNAME, password=PASSWORD
            )
        )
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        scram = [f"{m}=[name={USERNAME},password={PASSWORD}]" for m in ("SCRAM-SHA-256", "SCRAM-SHA-512")]
        self.java(
            "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", self._properties,
            "--add-scram", scram[0], "--add-scram", scram[1],
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        command = [
            "java",
            "-Xms256m",
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            f"{self._jars}/*",
        ]
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen([*command, "kafka.Kafka", str(self._properties)], stdout=log, stderr=log)
        host, port = self.address.split(":")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"the broker left with {self._process.returncode}, see {self.folder / 'broker.log'}")
            try:
                with socket.create_connection((host, int(port)), 1):
                    return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("the broker did not start within 60 s")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()

    def java(self, main: str, *words: object, stdin: bytes | None = None) -> str:
        """Run one of Kafka's own tools to its end; its standard output."""
        command = [
            "java",
            "-Xmx256m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-cp",
            f"{self._jars}/*",
            main,
            *map(str, words),
        ]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{main}: {(done.stderr or done.stdout).decode(errors='replace')[-500:]}")
        return done.stdout.decode()

    def create_topic(self, name: str, partitions: int = 1, **configs: str) -> None:
        from kafka import KafkaAdminClient
        from kafka.admin import NewTopic

        admin = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            wanted = {key.replace("_", "."): value for key, value in configs.items()}
            admin.create_topics([NewTopic(name, partitions, 1, topic_configs=wanted)])
        finally:
            admin.close()

    def records(self, topic: str) -> int:
        """Records of the topic, when none was deleted and there are no transactions."""
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(bootstrap_servers=self.address)
        try:
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            return sum(consumer.end_offsets(partitions).values())
        finally:
            consumer.close()

    def java_producer(self, topic: str, codec: str = "lz4") -> subprocess.Popen[bytes]:
        """Kafka's own console producer, left open: write KEY<tab>VALUE lines to its `stdin` and close it at the end.

        The value NULL is Kafka's null. It does not give up while the broker is away.
        """
        words = ["--bootstrap-server", self.address, "--topic", topic, "--compression-codec", codec]
        words += ["--message-send-max-retries", str(2**31 - 1), "--max-block-ms", "900000"]
        words += ["--command-property", "delivery.timeout.ms=900000"]
        for reading in ("parse.key=true", "key.separator=\t", f"null.marker={NULL.decode()}"):
            words += ["--reader-property", reading]
        command = ["java", "-Xmx256m", "-cp", f"{self._jars}/*", "org.apache.kafka.tools.ConsoleProducer", *words]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def produce(self, topic: str, lines: Iterable[tuple[str, bytes]], codec: str = "lz4") -> None:
        """(key, value) pairs through Kafka's own console producer, to the end."""
        process = self.java_producer(topic, codec)
        process.communicate(b"".join(key.encode() + b"\t" + value + b"\n" for key, value in lines), timeout=120)
        if process.returncode:
            raise RuntimeError(f"the console producer left with {process.returncode}")


def make_certificates(folder: Path) -> Path:
    """A CA and the broker's certificate for 127.0.0.1, signed by it. The path of the CA's certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    now = dt.datetime.now(dt.UTC)

    def certificate(name: str, issuer: str, key: rsa.RSAPrivateKey, signer: rsa.RSAPrivateKey, ca: bool) -> bytes:
        subject, by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, issuer))
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(by).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).add_extension(names, critical=False)
        builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=30))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ca_key, key = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    ca_certificate = certificate("driftline test CA", "driftline test CA", ca_key, ca_key, ca=True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "broker.pem").write_bytes(
        private + certificate("127.0.0.1", "driftline test CA", key, ca_key, ca=False) + ca_certificate
    )
    (folder / "ca.pem").write_bytes(ca_certificate)
    return folder / "ca.pem"
