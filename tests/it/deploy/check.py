"""Holds the files of deploy/, compose.yaml and docs/ together. One part a call:  check.py alerts|dashboard|kubernetes|compose|hosts

Structure only: nothing is started. What is wrong is printed, all of it, and the exit status is 1.
"""

import configparser
import json
import os
import pathlib
import re
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
RULES = ROOT / "deploy/prometheus/provisiond.rules.yml"
CASES = ROOT / "deploy/prometheus/provisiond.rules.test.yml"
WRAPPED = ROOT / "deploy/kubernetes/components/monitoring/rules.yaml"
OPERATIONS = ROOT / "docs/operations.md"
KUBERNETES = ROOT / "deploy/kubernetes"
VERSIONS = ("1.29", "1.33")

# What /metrics tells, without the _bucket, _sum and _count of histograms: every name that the program has.
METRICS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds",
           "process_start_time_seconds"}
for source in [path for part in ("telemetry", "monitoring", "worker") for path in (ROOT / "src" / part).rglob("*.rs")]:
    METRICS.update(re.findall(r'"(provisiond_[a-z_]+)"', source.read_text()))

wrong = []


def expect(holds, message):
    if not holds:
        wrong.append(message)


def load(path):
    return yaml.safe_load(path.read_text())


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def metrics_in(text):
    found = set(re.findall(r"\b(?:provisiond|process)_[a-z_]+", text))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


def alerts():
    groups = load(RULES)["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    names = [rule["alert"] for rule in rules]
    expect(len(names) == len(set(names)), "an alert is there twice")
    cases, page = CASES.read_text(), OPERATIONS.read_text()
    sections = set(re.findall(r"^### (\w+)$", page, re.M))
    for rule in rules:
        name, notes = rule["alert"], rule["annotations"]
        severity = rule["labels"]["severity"]
        expect(severity in ("page", "ticket"), f"{name}: severity {severity}")
        expect(notes["runbook_url"] == f"docs/operations.md#{name.lower()}", f"{name}: {notes['runbook_url']}")
        expect(notes["summary"] and notes["description"], f"{name} says nothing")
        expect(f'alertname="{name}"' in cases, f"{name} has no case in {CASES.name}")
        expect(name in sections, f"{name} has no section in docs/operations.md")
        expect(f"### {name}\n\n*{severity}.*" in page, f"docs/operations.md: {name} does not say *{severity}.*")
        for metric in metrics_in(rule["expr"]) - METRICS:
            expect(False, f"{name}: there is no metric {metric}")
    for section in sections - set(names):
        expect(False, f"docs/operations.md has a section of {section}, which is no alert")
    for metric in metrics_in(page) - METRICS:
        expect(False, f"docs/operations.md: there is no metric {metric}")
    for link in re.findall(r"\]\(([^)#]+)", page + (ROOT / "docs/deployment.md").read_text()):
        expect("://" in link or (ROOT / "docs" / link).exists(), f"docs: {link} leads nowhere")
    for anchor in re.findall(r"\]\(#(\w+)\)", page):
        expect(anchor in {s.lower() for s in sections}, f"docs/operations.md: #{anchor} leads nowhere")
    commands(page)
    expect(load(WRAPPED)["spec"]["groups"] == groups,
           f"{WRAPPED.name} is not {RULES.name} indented by two below `spec:`; copy it anew")


def commands(page):
    """What the page tells to type has the options that it names."""
    typed = re.findall(r"`(?:provisiond )?((?:executions|dead-letters|handlers|events) [a-z]+[^`]*)`", page)
    expect(len(typed) > 20, "the commands of docs/operations.md were not found")
    for command in typed:
        words = [os.environ["PROVISIOND"], *command.split()[:2], "--help"]
        help = subprocess.run(words, capture_output=True, text=True)
        expect(help.returncode == 0, f"docs/operations.md: {command}")
        for option in re.findall(r"--[a-z-]+", command):
            expect(re.search(rf"{option}\b", help.stdout), f"docs/operations.md: {command}: there is no {option}")


def dashboard():
    text = (ROOT / "deploy/grafana/provisiond.json").read_text()
    board = json.loads(text)
    ids = [panel["id"] for panel in board["panels"]]
    expect(len(ids) == len(set(ids)), "two panels have one id")
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            expr = target["expr"]
            expect(expr.count("(") == expr.count(")"), f"{panel['title']}: {expr}")
            for metric in metrics_in(expr) - METRICS:
                expect(False, f"{panel['title']}: there is no metric {metric}")
    unused = METRICS - metrics_in(text) - metrics_in(RULES.read_text())
    expect(unused <= {"provisiond_draining", "provisiond_registry_handlers", "process_start_time_seconds"},
           f"nobody looks at {unused}")


def resources_of(kustomization):
    """What a kustomization brings, its bases and components included, without what it changes in them."""
    folder, found = kustomization.parent, []
    config = load(kustomization)
    for entry in config.get("resources", []) + config.get("components", []):
        path = (folder / entry).resolve()
        expect(path.exists(), f"{kustomization.relative_to(ROOT)}: there is no {entry}")
        found += resources_of(path / "kustomization.yaml") if path.is_dir() else documents(path)
    for generator in config.get("configMapGenerator", []):
        data = {name: (folder / name).read_text() for name in generator["files"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data})
    return found


def kubernetes():
    found = resources_of(KUBERNETES / "example/kustomization.yaml")
    listed = {path for path in KUBERNETES.rglob("kustomization.yaml")}
    expect(len(listed) == 5, "a kustomization that nobody looks at")
    ours = {"monitoring.coreos.com/v1", "keda.sh/v1alpha1"}
    try:
        import kubernetes_validate
    except ImportError:
        print("SKIPPED: kubernetes-validate is not installed (Python 3.10 or later)")
        kubernetes_validate = None
    for resource in found:
        name = f"{resource['kind']} {resource['metadata']['name']}"
        if resource["apiVersion"] in ours or not kubernetes_validate:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(resource, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                expect(False, f"{name} ({version}): {error.message} at {list(error.path)}")
    by = {(resource["kind"], resource["metadata"]["name"]): resource for resource in found}
    for role in ("worker", "recorder", "console"):
        deployment(by, role)
    custom(by)


def deployment(by, role):
    name = f"provisiond-{role}"
    spec = by["Deployment", name]["spec"]
    pod, template = spec["template"]["spec"], spec["template"]["metadata"]
    expect(template["labels"] == spec["selector"]["matchLabels"] == {"app.kubernetes.io/component": role}, f"{name}: labels")
    expect(by["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"] == spec["selector"]["matchLabels"],
           f"{name}: its budget is of other pods")
    expect(spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0, f"{name}: maxUnavailable")
    expect(role != "worker" or pod["terminationGracePeriodSeconds"] > drain_seconds(), f"{name}: it is killed in its drain")
    expect(pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"], f"{name}: rights")
    expect(pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", f"{name}: seccomp")
    for container in pod["containers"] + pod.get("initContainers", []):
        context = container["securityContext"]
        expect(context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], f"{name}: {context}")
        expect(context["capabilities"]["drop"] == ["ALL"], f"{name}: capabilities")
        expect("memory" in container["resources"]["limits"], f"{name}: memory")
        volumes = {volume["name"] for volume in pod["volumes"]}
        expect({mount["name"] for mount in container["volumeMounts"]} <= volumes, f"{name}: volumes")
        secrets = [source["secretRef"]["name"] for source in container["envFrom"]]
        expect(all(("Secret", secret) in by for secret in secrets), f"{name}: {secrets}")
    container = pod["containers"][0]
    expect(container["args"] == ["serve", "--roles", role], f"{name}: {container['args']}")
    for probe, path in (("livenessProbe", "/healthz"), ("startupProbe", "/healthz"), ("readinessProbe", "/readyz")):
        expect(container[probe]["httpGet"] == {"path": path, "port": "metrics"}, f"{name}: {probe}")
    expect(any(mount["mountPath"] == "/tmp" for mount in container["volumeMounts"]), f"{name}: scripts need /tmp")


def custom(by):
    """What has no schema here."""
    monitor = by["PodMonitor", "provisiond"]["spec"]
    expect(monitor["podMetricsEndpoints"][0]["port"] == "metrics", "PodMonitor: port")
    expect({"targetLabel": "job", "replacement": "provisiond"} in monitor["podMetricsEndpoints"][0]["relabelings"], "PodMonitor: job")
    scaled = by["ScaledObject", "provisiond-worker"]["spec"]
    expect(("Deployment", scaled["scaleTargetRef"]["name"]) in by, "ScaledObject: of nothing")
    expect(0 < scaled["minReplicaCount"] < scaled["maxReplicaCount"], "ScaledObject: replicas")
    [trigger] = scaled["triggers"]
    values = trigger["metadata"]
    expect(all(isinstance(value, str) for value in values.values()), "ScaledObject: metadata are texts")
    expect((values["protocol"], values["mode"], values["useRegex"]) == ("http", "QueueLength", "true"), f"{values}")
    expect(values["excludeUnacknowledged"] == "false", "ScaledObject: what workers hold counts")
    expect(re.search(values["queueName"], "provisioning.events.clients.create"), "ScaledObject: queueName")
    expect(not re.search(values["queueName"], "provisioning.execution-log"), "ScaledObject: queueName")
    authentication = by["TriggerAuthentication", trigger["authenticationRef"]["name"]]["spec"]["secretTargetRef"][0]
    expect(authentication["key"] in by["Secret", authentication["name"]]["stringData"], "TriggerAuthentication: key")


def drain_seconds():
    text = (ROOT / "config/default.toml").read_text()
    return int(re.search(r'^drain_timeout = "(\d+)s"', text, re.M)[1])


def configuration(path):
    """The program reads it."""
    text = path.read_text()
    environment = {"PATH": os.environ["PATH"], "PROVISIOND_CONFIG": "/dev/null"}
    if "password_hash" not in text:
        # There they come from a secret.
        password_hash = re.search(r"^password_hash = (.+)$", (ROOT / "deploy/compose/provisiond.toml").read_text(), re.M)[1]
        environment["PROVISIOND_CONSOLE__USERS"] = f'[{{name = "ann", role = "operator", password_hash = {password_hash}}}]'
    read = subprocess.run([os.environ["PROVISIOND"], "config", "--config", "/dev/stdin"], env=environment, input=text,
                          capture_output=True, text=True)
    expect(read.returncode == 0, f"{path.relative_to(ROOT)}: {read.stderr}")


def compose():
    compose = load(ROOT / "compose.yaml")
    try:
        from compose_spec import ComposeSpecification
    except ImportError:
        print("SKIPPED: compose-spec is not installed (Linux on x86_64, Python 3.11 or later)")
    else:
        try:
            model = ComposeSpecification.model_validate(compose)
            known = {field.alias or name for name, field in type(model.services["worker"]).model_fields.items()}
            for name, service in compose["services"].items():
                expect(set(service) <= known, f"compose.yaml: {name} has {set(service) - known}")
        except ValueError as error:
            expect(False, f"compose.yaml: {error}")
    services = compose["services"]
    expect(set(services) == {"worker", "recorder", "console", "setup", "handler", "rabbitmq", "postgres"}, f"{set(services)}")
    expect(services["worker"]["deploy"]["replicas"] == 2, "two workers")
    for name, service in services.items():
        expect("profiles" not in service, f"{name} does not start by itself")
        for needed in service.get("depends_on", {}):
            expect(needed in services and "test" in services[needed]["healthcheck"], f"{name} waits for {needed}")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            expect((ROOT / source).exists() if source.startswith(".") else source in compose["volumes"], f"{name}: {volume}")
        for port in service.get("ports", []):
            expect(port.startswith("127.0.0.1:"), f"{name} listens beyond this machine: {port}")
    for name in ("worker", "recorder", "console"):
        expect(int(services[name]["stop_grace_period"].rstrip("s")) > drain_seconds(), f"{name} is killed in its drain")
    configuration(ROOT / "deploy/compose/provisiond.toml")
    configuration(KUBERNETES / "base/provisiond.toml")


def hosts():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(ROOT / "deploy/systemd/provisiond@.service")
    service = unit["Service"]
    expect(int(service["TimeoutStopSec"]) > drain_seconds(), "the unit is killed in its drain")
    expect(service["KillMode"] == "mixed", "KillMode")
    image = (ROOT / "Dockerfile").read_text()
    for line in ('HEALTHCHECK', 'CMD ["provisiond", "health"]', "USER 10001:10001", 'ENTRYPOINT ["tini", "--", "provisiond"]'):
        expect(line in image, f"Dockerfile: {line}")
    stages = image.split("\nFROM ")
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", stages[1] if len(stages) > 2 else stages[0], re.M))
    needed = {word for line in copied for word in line.split()}
    ignored = (ROOT / ".dockerignore").read_text()
    for name in needed:
        expect(f"!{name}\n" in ignored + "\n", f"the Dockerfile copies {name}, which .dockerignore keeps away")
    definitions = json.loads((ROOT / "deploy/rabbitmq/definitions.json").read_text())
    for policy in definitions["policies"]:
        expect("overflow" not in policy["definition"] or "execution-log" in policy["pattern"], f"{policy}")


globals()[sys.argv[1]]()
for line in wrong:
    print(line)
sys.exit(1 if wrong else 0)
