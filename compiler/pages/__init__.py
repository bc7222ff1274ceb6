"""The parts of the report's page: what it says, how it is written as HTML, and its charts. Pure, without torch."""
