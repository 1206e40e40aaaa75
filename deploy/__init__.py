"""The same app between separate machines: keys, enrolment, programs that stay up."""
