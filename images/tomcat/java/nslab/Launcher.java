package nslab;

import org.apache.catalina.startup.Catalina;
import org.apache.tomcat.util.modeler.Registry;

/** Starts Tomcat from conf/server.xml as Bootstrap does, without JMX: its beans cost 60 ms of start. */
public final class Launcher {
  public static void main(String[] args) {
    Registry.disableRegistry();
    Catalina catalina = new Catalina();
    catalina.setParentClassLoader(Launcher.class.getClassLoader());
    catalina.setAwait(true);
    catalina.load();
    catalina.start();
  }
}
