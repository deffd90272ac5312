"""Files: atomic writes, faults, archives, tables, resumable work, parallel work; the ground floor."""
