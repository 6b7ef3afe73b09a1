"""A client of the collector that counts what goes wrong."""
import http.client
import json
import threading


class Tracker(threading.Thread):
    """A client that opens a connection for each event, one after the other, and counts what goes wrong."""

    def __init__(self, host, name):
        super().__init__(daemon=True)
        self.host, self.name, self.over = host, name, False
        self.accepted, self.errors, self.told_to_close = 0, [], 0

    def run(self):
        number = 0
        while not self.over:
            number += 1
            body = json.dumps({"event_id": f"{self.name}-{number}", "type": "search", "user_id": self.name})
            connection = http.client.HTTPConnection(self.host, 80, timeout=20)
            try:
                connection.request("POST", "/track", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                self.told_to_close += answer.headers.get("connection") == "close"
                if answer.status == 202:
                    self.accepted += 1
                else:
                    self.errors.append(f"{answer.status} {answer.read()[:200]}")
            except OSError as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            except http.client.HTTPException as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            finally:
                connection.close()
