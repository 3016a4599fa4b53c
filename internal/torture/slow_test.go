package torture

func slowRole(string) {}
