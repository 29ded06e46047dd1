"""The kinds of tumors beside gliomas and meningiomas before treatment."""
