"""The world outside the core: sockets, processes, session folders, timers. No policy lives here."""
