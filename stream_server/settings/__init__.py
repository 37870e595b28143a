"""Everything that can be set, read once from the environment and `.env`. Nothing else reads either.

`declared` lists the settings, `texts` reads their values, `problems` reports wrong ones, and `printed` writes
`.env.example` and the table of the documentation from the list.
"""

from stream_server.settings.declared import API_KEYS, Settings
from stream_server.settings.problems import SettingsError

__all__ = ["API_KEYS", "Settings", "SettingsError"]
