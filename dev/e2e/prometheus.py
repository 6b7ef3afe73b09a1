"""A Prometheus that scrapes the operator and the pods of the demo as ServiceMonitor and PodMonitors say, and evaluates the chart's rules."""
import json
import subprocess
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

from env import DEMO, HOME, ROOT, Wrong, fetch, kubectl, until

ADDRESS = "127.0.0.1:19090"
# Debian's Prometheus is built without the discovery of Kubernetes: what it would find is written to files.
CONFIG = """
global: {{scrape_interval: 5s, evaluation_interval: 5s}}
rule_files: ["{root}/charts/herd/files/alerts.yaml"]
scrape_configs:
  - {{job_name: operator, honor_labels: true, file_sd_configs: [{{files: ["{folder}/operator.json"]}}]}}
  - {{job_name: stages, file_sd_configs: [{{files: ["{folder}/stages.json"]}}]}}
"""


class Prometheus:
    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        config = Path(self.folder.name, "prometheus.yml")
        config.write_text(CONFIG.format(root=ROOT, folder=self.folder.name))
        self.ended = threading.Event()
        self.discovery = threading.Thread(target=self.discover)
        self.discovery.start()
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.folder.name}/data", f"--web.listen-address={ADDRESS}"]
        with Path(self.folder.name, "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        until("Prometheus", lambda: fetch(f"http://{ADDRESS}/-/ready")[0] == 200, 30)

    def discover(self):
        """Writes the pods that are ready, with the labels that ServiceMonitor and PodMonitors give them."""
        while not self.ended.wait(4):
            for job, namespace, port in (("operator", HOME, "http"), ("stages", DEMO, "ops")):
                pods = json.loads(kubectl("get", "pods", "-o", "json", namespace=namespace, check=False) or '{"items": []}')["items"]
                found = Path(self.folder.name, f"{job}.new")
                found.write_text(json.dumps([one for pod in pods for one in targets(pod, port)]))
                found.rename(found.with_suffix(".json"))

    def query(self, expression, at=None):
        more = "" if at is None else f"&time={at:.3f}"
        answer = json.loads(fetch(f"http://{ADDRESS}/api/v1/query?query={urllib.parse.quote(expression)}{more}")[1])
        return answer["data"]["result"]

    def stop(self):
        self.ended.set()
        self.discovery.join()
        self.process.terminate()
        self.process.wait(timeout=30)
        self.folder.cleanup()


def targets(pod, name):
    metadata, status = pod["metadata"], pod["status"]
    if not any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", [])) or "deletionTimestamp" in metadata:
        return
    labels = {"namespace": metadata["namespace"], "pod": metadata["name"], "container": pod["spec"]["containers"][0]["name"]}
    if "herd.dev/pipeline" in metadata["labels"]:
        labels |= {"pipeline": metadata["labels"]["herd.dev/pipeline"], "stage": metadata["labels"]["app.kubernetes.io/component"]}
    for port in pod["spec"]["containers"][0].get("ports", []):
        if port.get("name") == name:
            yield {"targets": [f"{status['podIP']}:{port['containerPort']}"], "labels": labels}


def dashboard_queries():
    """Each query of the chart's dashboards with the title of its panel, as Grafana would send it."""
    for path in sorted(Path(ROOT, "charts/herd/files/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"]
                for variable, value in (("$namespace", DEMO), ("$pipeline", "shop"), ("$__rate_interval", "30s")):
                    expression = expression.replace(variable, value)
                yield f"{path.stem}: {panel['title']}", expression


def check_dashboards(prometheus, since):
    """Every query returned something since then."""
    empty, count = [], 0
    for title, expression in dashboard_queries():
        count += 1
        # Whatever was true at one time of the run: a query over a rate is empty before its second scrape.
        moments = range(int(since), int(time.time()) + 1, 10)
        if not any(prometheus.query(expression, at) for at in reversed(moments)):
            empty.append(f"{title}: {expression}")
    if empty:
        raise Wrong("these queries return nothing:\n" + "\n".join(empty))
    return count


def check_targets(prometheus):
    """Every pod is scraped; one that has just gone is left out once the discovery has seen that."""
    until("all targets to be scraped", lambda: is_scraped(prometheus), 30)


def is_scraped(prometheus):
    down = [f"{one['metric']['job']} {one['metric'].get('pod')}" for one in prometheus.query("up == 0")]
    jobs = {one["metric"]["job"] for one in prometheus.query("up == 1")}
    if down or jobs != {"operator", "stages"}:
        raise Wrong(f"not scraped: {down}; scraped jobs: {jobs}")
    return True
