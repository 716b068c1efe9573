"""Downloads: requests with manners, files that resume, and what the archives of dumps and crawls hold."""
