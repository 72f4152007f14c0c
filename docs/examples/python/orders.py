"""Creates a task over REST and works it, with the standard library alone: python3 orders.py http://localhost:8080/api"""

import json
import sys
import urllib.error
import urllib.request

API = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080/api"


def call(method, path, body=None):
    """Returns the answer, or None for 204."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(API + path, data=data, method=method, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def make_queue(name):
    try:
        call("POST", "/queue", {"queue": name, "retries": 5})
    except urllib.error.HTTPError as err:
        if err.code != 409:  # it exists
            raise


def send_mail(payload):
    return {"sent": True, "order": payload["order"]}


def work_one(queue):
    """Works one task. An error of the handler is a failure, after which the task runs again."""
    tasks = call("PUT", f"/task/{queue}?worker=python&limit=1&wait=5s")["body"]
    if not tasks:  # with a limit the answer is a list; without one 404 means that there is no task
        return None
    task = tasks[0]
    end = {"token": task["lease"]["token"]}
    try:
        end.update(fail=False, result=send_mail(task["payload"]))
    except Exception as err:
        end.update(fail=True, error=str(err))
    return call("PATCH", f"/task/{task['id']}", end)


make_queue("python-mail")
# A second create with the key and the payload finds the task, so a create may be repeated after a lost answer.
call("POST", "/task", {"queue": "python-mail", "payload": {"order": 17}, "key": "order-17"})
print(json.dumps(work_one("python-mail")))
