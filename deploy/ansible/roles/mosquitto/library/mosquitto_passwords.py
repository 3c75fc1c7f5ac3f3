#!/usr/bin/python
"""Ansible module: mosquitto's password file, hashed, and unchanged as long as the passwords are."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: mosquitto_passwords
short_description: mosquitto's password file
description:
  - Writes a password file for mosquitto 2 that holds exactly the given accounts.
  - A hash that fits its password stays as it is. So a second run changes nothing, though hashes are salted.
options:
  path:
    description: The password file.
    type: path
    required: true
  passwords:
    description: Account to password; one that begins with C($7$) is a hash and taken as it is.
    type: dict
    required: true
  iterations:
    description: Rounds of PBKDF2 for new hashes. mosquitto spends them at each connection, while all others wait.
    type: int
    default: 1000
extends_documentation_fragment:
  - files
author:
  - the tinyfaas authors
"""

EXAMPLES = r"""
- name: Write the passwords
  mosquitto_passwords:
    path: /etc/mosquitto/passwords
    passwords:
      admin: "{{ admin_password }}"
    owner: root
    group: mosquitto
    mode: "0640"
"""

RETURN = r"""
changed_accounts:
  description: Accounts that are new, have another password, or are gone.
  returned: always
  type: list
  elements: str
"""

HASHED = "$7$"  # PBKDF2 with SHA-512, what mosquitto_passwd writes since 2.0
SALT_BYTES = 12  # mosquitto before 2.0.19 knows no other length


def hashed(password: str, iterations: int, salt: bytes) -> str:
    """The hash as it stands in the file."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    return f"{HASHED}{iterations}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def fits(present: str, password: str) -> bool:
    """Whether a hash is that of a password, or the very hash that is given."""
    if password.startswith(HASHED) or not present.startswith(HASHED):
        return hmac.compare_digest(present.encode(), password.encode())
    try:
        iterations, salt, _digest = present[len(HASHED) :].split("$")
        return hmac.compare_digest(present, hashed(password, int(iterations), base64.b64decode(salt)))
    except ValueError:
        return False


def main() -> None:
    """Compare, and write beside and rename where something differs."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "passwords": {"type": "dict", "required": True, "no_log": True},
            "iterations": {"type": "int", "default": 1000},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    path, wanted = Path(module.params["path"]), {name: str(text) for name, text in module.params["passwords"].items()}
    if bad := [name for name, text in wanted.items() if not name or not text or set(name + text) & set(":\r\n")]:
        module.fail_json(msg=f"neither empty nor with a colon or a new line: {', '.join(bad)}")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    present = {name: text for name, colon, text in (line.partition(":") for line in lines) if colon}

    def kept_or_new(name: str, password: str) -> str:
        if name in present and fits(present[name], password):
            return present[name]
        if password.startswith(HASHED):
            return password
        return hashed(password, module.params["iterations"], os.urandom(SALT_BYTES))

    result = {name: kept_or_new(name, password) for name, password in wanted.items()}
    differ = sorted(name for name in present.keys() | result.keys() if present.get(name) != result.get(name))
    changed = bool(differ) or not path.exists()
    if changed and not module.check_mode:
        beside = Path(module.tmpdir, "passwords")
        beside.write_text("".join(f"{name}:{text}\n" for name, text in result.items()), encoding="utf-8")
        module.atomic_move(str(beside), str(path))
    if path.exists():
        changed = module.set_fs_attributes_if_different(module.load_file_common_arguments(module.params), changed)
    shown = {
        "before": "".join(f"{name}\n" for name in present),
        "after": "".join(
            f"{name}{' (another password)' if name in differ and name in present else ''}\n" for name in result
        ),
    }
    module.exit_json(changed=changed, changed_accounts=differ, diff=shown)


if __name__ == "__main__":
    main()
